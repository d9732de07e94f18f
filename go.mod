module aifbench

go 1.26.8
