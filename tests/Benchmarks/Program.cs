using BenchmarkDotNet.Configs;
using Perfolizer.Horology;
using BenchmarkDotNet.Jobs;
using BenchmarkDotNet.Running;
using BenchmarkDotNet.Toolchains.InProcess.Emit;

// "idle AGENT [SECONDS]" is no benchmark of a method: it watches the published agent while nothing happens.
if (args is ["idle", var agent, .. var rest])
    return await PciOperator.Benchmarks.IdleAgent.RunAsync(agent, TimeSpan.FromSeconds(rest is [var seconds] ? int.Parse(seconds, System.Globalization.CultureInfo.InvariantCulture) : 60));

// Nor does "bound" measure one method alone; all benchmarks end with it.
if (args is ["bound"])
{
    PciOperator.Benchmarks.WorkBound.Print(Console.Out);
    return 0;
}

// In this process: no second build, so that it runs wherever the tests do.
BenchmarkSwitcher.FromAssembly(typeof(PciOperator.Benchmarks.HostBenchmarks).Assembly).Run(
    args,
    DefaultConfig.Instance.AddJob(Job.Default.WithToolchain(InProcessEmitToolchain.Instance).WithWarmupCount(3).WithIterationCount(8).WithIterationTime(TimeInterval.FromMilliseconds(150))));
PciOperator.Benchmarks.WorkBound.Print(Console.Out);
return 0;
