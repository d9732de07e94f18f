// Package vector owns the engine of bench chroma: the phases of a run,
// the judgement of every answer, the ledger of disk use, and the records and
// figures that follow from them. It must not know Slurm, the words of the
// command line, the bytes of Chroma's API (package chroma has those), how
// vectors are made (data) or what is near to what (exact).
package vector
