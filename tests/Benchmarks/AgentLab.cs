using System.Collections.Concurrent;
using System.Diagnostics;
using k8s.Models;
using PciOperator.Api;
using PciOperator.Kubernetes;
using PciOperator.Sandbox.ApiServer;
using PciOperator.Sandbox.Hosts;
using PciOperator.Sandbox.Validation;

namespace PciOperator.Benchmarks;

/// <summary>Where published programs run: the sandbox's API server, which counts its requests, and the files of simulated hosts.</summary>
internal sealed class AgentLab : IAsyncDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(40);
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("pcioperator-lab-");
    private readonly SandboxApiServer _server;
    private readonly EntityClient _client;

    private AgentLab(SandboxApiServer server, ConcurrentDictionary<string, int> requests)
    {
        (_server, Requests) = (server, requests);
        _client = new EntityClient(ClusterAccess.FromKubeconfigText(server.KubeconfigText), PciOperatorJsonContext.Default);
        Kubeconfig = Path.Combine(_folder.FullName, "kubeconfig");
        File.WriteAllText(Kubeconfig, server.KubeconfigText);
    }

    public string Kubeconfig { get; }

    /// <summary>How often each was asked for.</summary>
    public ConcurrentDictionary<string, int> Requests { get; }

    public static async Task<AgentLab> StartAsync()
    {
        var requests = new ConcurrentDictionary<string, int>(StringComparer.Ordinal);
        return new AgentLab(
            await SandboxApiServer.StartAsync(
                new SandboxApiServerOptions
                {
                    Crds = SandboxCrds.All,
                    Validators = OwnResourceRules.Validators,
                    OnRequest = (method, path) => requests.AddOrUpdate($"{method} {path}", 1, (_, n) => n + 1),
                }
            ),
            requests
        );
    }

    /// <summary>Starts the agent of a node whose host is this one, and whose every device a rule offers.</summary>
    public async Task<ShippedProgram> StartAgentAsync(string file, string node, SimulatedHost host)
    {
        await _client.CreateAsync(
            new PciNode
            {
                Metadata = new V1ObjectMeta { Name = node },
                Spec = new PciNodeSpec { Rules = [new PciNodeRule { Name = "all", Devices = [new DeviceSelectorSpec()] }] },
            }
        );
        string root = _folder.CreateSubdirectory(node).FullName;
        host.CopyTo(root);
        return new ShippedProgram(file, "--node-name", node, "--kubeconfig", Kubeconfig, "--host-root", root);
    }

    /// <summary>Waits until an agent has said what it sees and then says nothing new for ten seconds; the number of devices.</summary>
    public async Task<int> SettledAsync(ShippedProgram agent, string node)
    {
        var waited = Stopwatch.StartNew();
        var quiet = Stopwatch.StartNew();
        string? version = null;
        while (true)
        {
            agent.ThrowIfEnded();
            PciNode? found = await _client.GetAsync<PciNode>(node);
            if (found?.Metadata.ResourceVersion != version)
                (version, quiet) = (found?.Metadata.ResourceVersion, Stopwatch.StartNew());
            if (found?.Status is { Devices: { } devices } && quiet.Elapsed > TimeSpan.FromSeconds(10))
                return devices.Count;
            if (waited.Elapsed > Patience)
                throw new TimeoutException($"The agent of {node} has not settled within {Patience.TotalSeconds:0} s.");
            await Task.Delay(500);
        }
    }

    public async ValueTask DisposeAsync()
    {
        _client.Dispose();
        await _server.DisposeAsync();
        _folder.Delete(recursive: true);
    }
}
