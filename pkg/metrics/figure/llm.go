package figure

// llm holds the figures of its area.
var llm = []Def{}
