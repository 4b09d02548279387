"""OpenAI's Responses API over chat completions, and the responses it keeps."""
