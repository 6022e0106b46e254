using Microsoft.Extensions.Logging;
using PciOperator.Api;
using PciOperator.Controller;
using PciOperator.Kubelet;
using PciOperator.Kubernetes;
using PciOperator.Sandbox.Cluster;
using PciOperator.Sandbox.Hosts;
using Prometheus;

namespace PciOperator.KilledPrograms;

/// <summary>
/// The controller and the agent as processes of their own that a test kills: the agent on a simulated host that a file keeps.
/// </summary>
internal static class Programs
{
    public static async Task<int> RunControllerAsync(string kubeconfig, CancellationToken ct)
    {
        var kill = new KillSwitch();
        using ILoggerFactory logs = KubernetesLogging.Create(LogLevel.Critical, LogFormat.Text);
        ILogger log = logs.CreateLogger("controller");
        CollectorRegistry metrics = Metrics.NewCustomRegistry();
        using var client = new EntityClient(
            ClusterAccess.FromKubeconfig(kubeconfig),
            ResourceJsonContext.WithOwnKinds,
            logger: log,
            wrap: inner => new KillingHandler(inner, kill),
            userAgent: "pcioperator-controller",
            fieldManager: "pcioperator-controller",
            metrics: metrics
        );
        await using var events = new EventRecorder(client, "pcioperator-controller", "killed", logger: log);
        var controller = new PciController(
            client,
            new ControllerOptions
            {
                LeaderElect = false,
                DefaultDelivery = Delivery.None,
                KickDelay = TimeSpan.FromMilliseconds(20),
                CountDelay = TimeSpan.FromMilliseconds(50),
            },
            TimeProvider.System,
            log,
            metrics,
            events
        );
        Task running = controller.RunAsync(ct);
        return await ServeAsync(kill, running, () => controller.NotReady() is null);
    }

    public static async Task<int> RunAgentAsync(
        string kubeconfig,
        string node,
        string hostFile,
        (string Root, string Folder)? kubelet,
        CancellationToken ct
    )
    {
        var kill = new KillSwitch();
        using ILoggerFactory logs = KubernetesLogging.Create(LogLevel.Critical, LogFormat.Text);
        var host = SimulatedHost.Open(hostFile);
        host.Fault = access =>
        {
            if (NameOf(access) is { } name)
                kill.Reach(name, access.Before);
        };
        var ready = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        Task running = AgentOnSimulatedHost.RunAsync(
            node,
            host,
            Installation.Default,
            ClusterAccess.FromKubeconfig(kubeconfig),
            TimeProvider.System,
            logs.CreateLogger("agent"),
            ready,
            inner => new KillingHandler(inner, kill),
            ct,
            kubelet is null
                ? null
                : new KubeletOptions
                {
                    Driver = DraNames.Driver,
                    KubeletDirectory = kubelet.Value.Folder,
                    StateDirectory = SimulatedHost.StateDirectory,
                    SocketRoot = kubelet.Value.Root,
                    // One pod, whose container is started again each time.
                    PodUid = "pod-1",
                    SocketCheck = TimeSpan.FromMilliseconds(100),
                },
            // How many writes there are then follows from the work, not from how long it takes.
            TimeSpan.Zero
        );
        return await ServeAsync(kill, running, () => ready.Task.IsCompleted);
    }

    private static async Task<int> ServeAsync(KillSwitch kill, Task running, Func<bool> ready)
    {
        while (!ready() && !running.IsCompleted)
            await Task.Delay(5);
        Console.WriteLine("ready");
        await Task.WhenAny(running, Task.Run(kill.Listen));
        if (running.IsFaulted)
            await Console.Error.WriteLineAsync(running.Exception.ToString());
        return running.IsFaulted ? 1 : 0;
    }

    private static string? NameOf(SimulatedAccess access) =>
        access.Operation switch
        {
            SimulatedOperation.Write => "sysfs " + access.Path[(access.Path.LastIndexOf('/') + 1)..],
            SimulatedOperation.WriteDurably when HandedOut(access.Path) is { } file => file + " write",
            SimulatedOperation.Delete when HandedOut(access.Path) is { } file => file + " delete",
            SimulatedOperation.WriteDurably => access.Path.Contains("/journal/", StringComparison.Ordinal) ? "journal write"
            : access.Path.StartsWith(SimulatedHost.StateDirectory + "/devices/", StringComparison.Ordinal) ? "device memory write"
            : "state write",
            SimulatedOperation.HotReset => "hot reset",
            SimulatedOperation.Delete => "journal delete",
            SimulatedOperation.LoadModule => "modprobe " + access.Path,
            _ => null,
        };

    /// <summary>What a file is to a kubelet and a container runtime; null: nothing.</summary>
    private static string? HandedOut(string path) =>
        path.StartsWith(SimulatedHost.StateDirectory + "/resource-claims/", StringComparison.Ordinal) ? "checkpoint"
        : path.StartsWith(SimulatedHost.StateDirectory + "/allocations/", StringComparison.Ordinal) ? "allocation"
        : path.Contains("/dra-device-metadata/", StringComparison.Ordinal) ? "metadata"
        : !path.StartsWith("/var/run/cdi/", StringComparison.Ordinal) ? null
        : path.Contains("_metadata_", StringComparison.Ordinal) ? "CDI of metadata"
        : "CDI of devices";
}
