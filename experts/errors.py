"""The errors of experts and engines.

ExpertsError
├── CheckpointError                 preparing or reading a checkpoint
│   ├── CheckpointMissing           the source, a file of it, or the prepared folder is not there
│   ├── CheckpointUnreadable        a file is truncated or is not what its name says
│   ├── CheckpointMismatch          a hash, tensor name, shape or dtype differs from what was expected
│   └── NoSpace                     the disk cannot hold what preparation writes
├── MemoryUnknown                   what memory is free is not known
└── EngineError
    ├── EngineStartFailed           the process ended or never became ready; carries the first cause
    ├── EngineUnavailable           the engine sent nothing of an answer: safe to try again
    ├── EngineLost                  the engine went away in the middle of an answer
    ├── AnswerFailed                the engine gave an answer up in the middle, and goes on
    ├── EngineStalled               the engine runs, and sends no more in the middle of an answer
    ├── LoadFailed                  an expert could not be brought to the device; those resident still serve
    │   ├── CanaryFailed            it was brought, and does not compute what preparation recorded
    │   └── DeviceFull              the device has no room for it; its copy is as good as before
    └── ExpertNotResident           a request named an expert that is not on the device
"""


class ExpertsError(Exception):
    """Root of the tree. The message says what to do next."""


class CheckpointError(ExpertsError):
    pass


class CheckpointMissing(CheckpointError):
    pass


class CheckpointUnreadable(CheckpointError):
    pass


class CheckpointMismatch(CheckpointError):
    pass


class NoSpace(CheckpointError):
    pass


class MemoryUnknown(ExpertsError):
    pass


class EngineError(ExpertsError):
    pass


class EngineStartFailed(EngineError):
    pass


class EngineUnavailable(EngineError):
    pass


class EngineLost(EngineError):
    pass


class AnswerFailed(EngineError):
    pass


class EngineStalled(EngineError):
    pass


class LoadFailed(EngineError):
    pass


class CanaryFailed(LoadFailed):
    pass


class DeviceFull(LoadFailed):
    pass


class ExpertNotResident(EngineError):
    pass
