"""Carries out the state machine's actions on the asyncio loop, over real engines and files."""
