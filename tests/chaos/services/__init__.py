"""Programs that are mirrored in runs, beside redis. They know nothing of kagemusha, and speak redis' words."""
