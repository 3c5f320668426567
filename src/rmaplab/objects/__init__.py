"""The nouns: VmArea, MmStruct, TaskStruct, their flags; and the graph of a reverse map."""
