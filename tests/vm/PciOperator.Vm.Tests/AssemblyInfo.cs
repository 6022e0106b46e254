// One machine at a time: emulated processors take whole real ones.
[assembly: CollectionBehavior(DisableTestParallelization = true)]
