"""The nouns: VmArea, MmStruct, TaskStruct."""
