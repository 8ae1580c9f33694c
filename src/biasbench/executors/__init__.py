"""Where cells run. Local processes are the default."""
