using System.Globalization;
using PciOperator.Sandbox.Hosts;

namespace PciOperator.Benchmarks;

/// <summary>
/// What agent and controller cost as they ship: the file, the time from exec until <c>/readyz</c> answers 200, and, over a span in which
/// nothing happens, memory and CPU. Starts follow one another; the span is the same for all. It fails when a goal is missed.
/// </summary>
internal static class Footprint
{
    private const double AgentGoal = 25;
    private const double ControllerGoal = 35;
    private static readonly TimeSpan ReadyGoal = TimeSpan.FromMilliseconds(100);

    public static async Task<int> RunAsync(string agentFile, string controllerFile, TimeSpan span)
    {
        await using AgentLab lab = await AgentLab.StartAsync();
        // What this process compiles at its first use isn't the programs' time; nor is reading their files from the disk.
        await using (ShippedProgram first = await lab.StartAgentAsync(agentFile, "first", LabHosts.Create()))
            await first.ReadyAsync();
        await using (ShippedProgram first = StartController(controllerFile, lab, "first"))
            await first.ReadyAsync();

        await using ShippedProgram agent = await lab.StartAgentAsync(agentFile, "idle", LabHosts.Create());
        TimeSpan agentReady = await agent.ReadyAsync();
        int few = await lab.SettledAsync(agent, "idle");
        await using ShippedProgram busy = await lab.StartAgentAsync(agentFile, "vfs", LabHosts.CreateWith256Vfs());
        TimeSpan busyReady = await busy.ReadyAsync();
        int many = await lab.SettledAsync(busy, "vfs");
        await using ShippedProgram controller = StartController(controllerFile, lab, "second");
        TimeSpan controllerReady = await controller.ReadyAsync();
        await Task.Delay(TimeSpan.FromSeconds(10));

        Shipped[] programs =
        [
            new($"agent, {few} functions", agentFile, agent, agentReady, AgentGoal),
            new($"agent, {many} functions", agentFile, busy, busyReady, AgentGoal),
            new("controller", controllerFile, controller, controllerReady, ControllerGoal),
        ];
        ProcessUsage[] before = programs.Select(p => p.Program.Usage()).ToArray();
        await Task.Delay(span);

        Console.WriteLine(
            $"{"", -22} {"file MB", 8} {"ready ms", 9} {"RSS MiB", 8} {"anonymous", 10} {"threads", 8} {$"CPU ms in {span.TotalSeconds:0} s", 14}"
        );
        var missed = programs.Zip(before, Print).SelectMany(m => m).ToList();
        foreach (string goal in missed)
            Console.WriteLine($"MISSED: {goal}");
        return missed.Count == 0 ? 0 : 1;
    }

    private static ShippedProgram StartController(string file, AgentLab lab, string lease) =>
        new(file, "--kubeconfig", lab.Kubeconfig, "--lease-name", lease, "--namespace", "default");

    private static List<string> Print(Shipped shipped, ProcessUsage before)
    {
        ProcessUsage usage = shipped.Program.Usage();
        double resident = usage.Resident / 1024.0;
        double cpu = usage.Since(before).Sum(t => t.Nanoseconds) / 1e6;
        Console.WriteLine(
            string.Create(
                CultureInfo.InvariantCulture,
                $"{shipped.Name, -22} {new FileInfo(shipped.File).Length / 1e6, 8:0.0} {shipped.Ready.TotalMilliseconds, 9:0} {resident, 8:0.0} {usage.Anonymous / 1024.0, 10:0.0} {usage.Threads.Count, 8} {cpu, 14:0.0}"
            )
        );
        List<string> missed = [];
        if (resident > shipped.Goal)
        {
            missed.Add(
                string.Create(
                    CultureInfo.InvariantCulture,
                    $"{shipped.Name} has {resident:0.0} MiB resident; the goal is {shipped.Goal:0}."
                )
            );
        }

        if (shipped.Ready > ReadyGoal)
        {
            missed.Add(
                string.Create(
                    CultureInfo.InvariantCulture,
                    $"{shipped.Name} was ready after {shipped.Ready.TotalMilliseconds:0} ms; the goal is {ReadyGoal.TotalMilliseconds:0}."
                )
            );
        }

        return missed;
    }

    private sealed record Shipped(string Name, string File, ShippedProgram Program, TimeSpan Ready, double Goal);
}
