using BenchmarkDotNet.Configs;
using BenchmarkDotNet.Jobs;
using BenchmarkDotNet.Running;
using BenchmarkDotNet.Toolchains.InProcess.Emit;
using Perfolizer.Horology;

// "idle AGENT [SECONDS]" is no benchmark of a method: it watches the published agent while nothing happens.
if (args is ["idle", var agent, .. var rest])
{
    return await PciOperator.Benchmarks.IdleAgent.RunAsync(
        agent,
        TimeSpan.FromSeconds(rest is [var seconds] ? int.Parse(seconds, System.Globalization.CultureInfo.InvariantCulture) : 60)
    );
}

// "footprint AGENT CONTROLLER [SECONDS]" does so for both programs, from their start on.
if (args is ["footprint", var shippedAgent, var shippedController, .. var time])
{
    return await PciOperator.Benchmarks.Footprint.RunAsync(
        shippedAgent,
        shippedController,
        TimeSpan.FromSeconds(time is [var span] ? int.Parse(span, System.Globalization.CultureInfo.InvariantCulture) : 60)
    );
}

// "client NAME=PROGRAM …" compares clients of the API, each in a program of its own.
if (args is ["client", .. var programs])
    return await PciOperator.Benchmarks.ClientComparison.RunAsync(programs);

// Nor does "bound" measure one method alone; all benchmarks end with it.
if (args is ["bound"])
{
    PciOperator.Benchmarks.WorkBound.Print(Console.Out);
    return 0;
}

// Neither is "load APISERVER CONTROLLER [CLAIMS NODES WAITING]": it counts what many claims at once ask of a real API server.
if (args is ["load", var apiServer, var controller, .. var sizes])
{
    int Size(int index, int otherwise) =>
        sizes.Length > index ? int.Parse(sizes[index], System.Globalization.CultureInfo.InvariantCulture) : otherwise;
    return await PciOperator.Benchmarks.ClaimLoad.RunAsync(apiServer, controller, Size(0, 2000), Size(1, 12), Size(2, 1500));
}

// And "delivery APISERVER [CLAIMS NODES]": the same until pods run with the devices.
if (args is ["delivery", var realServer, .. var numbers])
{
    int Number(int index, int otherwise) =>
        numbers.Length > index ? int.Parse(numbers[index], System.Globalization.CultureInfo.InvariantCulture) : otherwise;
    return await PciOperator.Benchmarks.DeliveryLoad.RunAsync(realServer, Number(0, 200), Number(1, 8));
}

// In this process: no second build, so that it runs wherever the tests do.
BenchmarkSwitcher
    .FromAssembly(typeof(PciOperator.Benchmarks.HostBenchmarks).Assembly)
    .Run(
        args,
        DefaultConfig.Instance.AddJob(
            Job.Default.WithToolchain(InProcessEmitToolchain.Instance)
                .WithWarmupCount(3)
                .WithIterationCount(8)
                .WithIterationTime(TimeInterval.FromMilliseconds(150))
        )
    );
PciOperator.Benchmarks.WorkBound.Print(Console.Out);
return 0;
