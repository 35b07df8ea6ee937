"""The process itself: which it is, its clock, its logs, its tasks, and the terms it leads in.

Nothing here knows what the engine does."""
