"""How the services stand together: one folder a body, and the environments that all of them use."""
