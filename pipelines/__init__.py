"""The steps as one table, the runner that starts them, and the main job. Standard library only."""
