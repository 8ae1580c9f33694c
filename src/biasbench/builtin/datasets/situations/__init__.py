"""What the imSitu reader is made of: which files, how verbs and genders are told, the index, boxes."""
