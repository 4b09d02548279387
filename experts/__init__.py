"""What an expert is, and how an engine that computes with it is run."""
