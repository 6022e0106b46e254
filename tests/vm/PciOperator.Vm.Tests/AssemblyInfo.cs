// One machine at a time: emulated processors take whole real ones.
[assembly: Xunit.v3.Parallelization(Mode = Xunit.Sdk.ParallelMode.None)]
