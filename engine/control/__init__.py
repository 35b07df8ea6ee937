"""Control repositories: what is declared in Git, put in force whole or not at all.

Whether a resource may be declared is `engine.admission`'s to say, and never this room's."""
