// Package vector owns the engine of bench chroma: the phases of a run, the
// generated data and their exact neighbours, the judgement of every answer,
// recall under its named definitions, the ledger of disk use, and the records
// and figures that follow from them. It must not know Slurm, the words of the
// command line, or the bytes of Chroma's API (package chroma has those).
package vector
