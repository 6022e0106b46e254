using Microsoft.Extensions.Logging;
using PciOperator.Controller;
using PciOperator.Kubernetes;
using PciOperator.Sandbox.ApiServer;
using PciOperator.Sandbox.Cluster;
using PciOperator.Sandbox.Hosts;
using Spectre.Console;

namespace PciOperator.Sandbox;

/// <summary><c>make sandbox</c>: a simulated cluster for kubectl.</summary>
internal static class SandboxSession
{
    public static async Task<int> RunAsync(int port, int nodes, string? samples, CancellationToken ct)
    {
        using ILoggerFactory logs = KubernetesLogging.Create(LogLevel.Warning, LogFormat.Text);
        await using SandboxCluster cluster = await SandboxCluster.StartAsync(
            new SandboxClusterOptions
            {
                Log = logs.CreateLogger("sandbox"),
                RunsPods = true,
                Controller = new ControllerOptions { LeaderElect = false },
            },
            new SandboxApiServerOptions { Port = port },
            ct
        );
        cluster.StartController();
        for (int i = 1; i <= nodes; i++)
            await cluster.AddNodeAsync($"node-{i}", LabHosts.Create(i), LabHosts.Labels(i), ct);
        foreach (string word in new[] { "device-specs", "aliases" })
        {
            foreach (string yaml in Samples.Read(samples, word))
                await Manifests.ApplyAsync(cluster.Client, yaml, ct: ct);
        }

        string kubeconfig = Path.Combine(Directory.CreateTempSubdirectory("pcioperator-sandbox-").FullName, "kubeconfig");
        await File.WriteAllTextAsync(kubeconfig, cluster.KubeconfigText, ct);
        IAnsiConsole console = Terminal.Open();
        console.MarkupLine($"[green]A cluster of {nodes} simulated nodes is running.[/] In another terminal:");
        console.WriteLine();
        console.WriteLine($"  export KUBECONFIG={kubeconfig}");
        console.WriteLine();
        console.WriteLine("  kubectl get pds,pa,ptc,pn -o wide");
        console.WriteLine("  kubectl explain ptc.spec.requests");
        console.WriteLine("  kubectl apply -f config/samples/claims.yaml");
        console.WriteLine("  kubectl get ptc -w");
        console.WriteLine("  kubectl apply -f config/samples/kubevirt/pod-dpdk.yaml");
        console.WriteLine("  kubectl get resourceclaims,resourceslices,pods -o wide");
        console.WriteLine();
        console.MarkupLine("[grey]Ctrl-C ends it, and everything in it.[/]");
        try
        {
            await Task.Delay(Timeout.Infinite, ct);
        }
        catch (OperationCanceledException)
        {
            // As asked.
        }

        Directory.Delete(Path.GetDirectoryName(kubeconfig)!, recursive: true);
        return 0;
    }
}
