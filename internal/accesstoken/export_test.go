package accesstoken

// NewSmallMemory is NewMemory with room for so many.
var NewSmallMemory = newMemory
