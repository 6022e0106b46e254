using System.Runtime.CompilerServices;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Time.Testing;
using PciOperator.Api;
using PciOperator.Controller;
using PciOperator.Core;
using PciOperator.Kubernetes;
using PciOperator.Sandbox.Cluster;
using PciOperator.Sandbox.Hosts;
using PciOperator.Testing;

[assembly: AssemblyFixture(typeof(PciOperator.Cli.Tests.SandboxLab))]

namespace PciOperator.Cli.Tests;

/// <summary>What a command wrote, and its exit code.</summary>
public sealed record Said(int Code, string Out, string Error);

/// <summary>One sandbox for all tests: two lab nodes, the samples' specs, aliases and claims, and a VM of KubeVirt; nothing in it changes any more.</summary>
public sealed class SandboxLab : IAsyncLifetime
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);
    private readonly string _folder = Directory.CreateTempSubdirectory("kubectl-pci-").FullName;
    private readonly ILoggerFactory _logs = KubernetesLogging.Create(LogLevel.Critical, LogFormat.Text);
    private SandboxCluster? _cluster;
    private PortForwards? _ports;

    public SandboxCluster Cluster => _cluster!;

    public string Kubeconfig => Path.Combine(_folder, "kubeconfig");

    public async ValueTask InitializeAsync()
    {
        _cluster = await SandboxCluster.StartAsync(
            new SandboxClusterOptions
            {
                Log = _logs.CreateLogger("lab"),
                Controller = new ControllerOptions
                {
                    LeaderElect = false,
                    DefaultDelivery = Delivery.None,
                    KickDelay = TimeSpan.FromMilliseconds(20),
                    CountDelay = TimeSpan.FromMilliseconds(50),
                },
            }
        );
        _cluster.StartController();
        for (int i = 1; i <= 2; i++)
            await _cluster.AddNodeAsync($"node-{i}", LabHosts.Create(i), LabHosts.Labels(i));
        await MakeVfsInOrderAsync("0000:21:00.0", "0000:81:00.0");
        await Manifests.ApplyAsync(Cluster.Client, Sample("device-specs.yaml"));
        await Manifests.ApplyAsync(Cluster.Client, Sample("aliases.yaml"));
        await UntilAsync(SettledAsync);
        // One after the other: which devices each gets depends on who came before.
        foreach (string document in Sample("claims.yaml").Split("\n---\n"))
            await ClaimAsync(document, ClaimPhase.Allocated);
        await ClaimAsync(
            """
            apiVersion: pcioperator.io/v1alpha1
            kind: PassthroughClaim
            metadata:
              name: too-much
            spec:
              requests:
                - name: gpus
                  alias: nv2080
                  count: 16
            """,
            ClaimPhase.Pending
        );
        await KubeVirtKinds.InstallAsync(Cluster.Client, "kubevirts", "virtualmachines", "virtualmachineinstances");
        await Manifests.ApplyAsync(
            Cluster.Client,
            """
            apiVersion: kubevirt.io/v1
            kind: VirtualMachine
            metadata: {name: render, namespace: default}
            spec:
              runStrategy: Always
              template:
                spec:
                  resourceClaims: [{name: card, resourceClaimName: rendre}]
                  domain: {devices: {gpus: [{name: gpu, claimName: card, requestName: gpu}]}}
            status: {printableStatus: ErrorUnschedulable}
            """
        );
        await UntilAsync(SettledAsync);
        _ports = await PortForwards.StartAsync(_folder, Cluster.Nodes.Values);
        await File.WriteAllTextAsync(Kubeconfig, Cluster.KubeconfigText);
    }

    public async ValueTask DisposeAsync()
    {
        if (_ports is not null)
            await _ports.DisposeAsync();
        if (_cluster is not null)
            await _cluster.DisposeAsync();
        _logs.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    /// <summary>Runs a command as from a pipe.</summary>
    public Task<Said> PipedAsync(params string[] args) => RunAsync(0, false, args);

    /// <summary>Runs a command as on a terminal of a width, without colours.</summary>
    public Task<Said> OnTerminalAsync(int width, params string[] args) => RunAsync(width, false, args);

    /// <summary>Runs a command.</summary>
    /// <param name="width">The terminal's; 0: a pipe.</param>
    /// <param name="colours">Whether the terminal's environment wants them.</param>
    /// <param name="args">The command line.</param>
    /// <param name="answer">What a person types.</param>
    /// <param name="kubectl">What kubectl does instead, as a shell script.</param>
    public async Task<Said> RunAsync(int width, bool colours, IReadOnlyList<string> args, string? answer = null, string? kubectl = null)
    {
        using var output = new StringWriter();
        using var error = new StringWriter();
        using var io = new CliIo
        {
            Out = output,
            Error = error,
            In = new StringReader(answer ?? ""),
            IsTerminal = width > 0,
            IsInteractive = answer is not null,
            Width = width > 0 ? width : 80,
            Kubectl = kubectl is null
                ? _ports!.Kubectl
                : PortForwards.Write(
                    Directory.CreateDirectory(Path.Combine(_folder, Path.GetRandomFileName())).FullName,
                    $"#!/bin/sh\n{kubectl}\n"
                ),
            Environment = name =>
                name switch
                {
                    "KUBECONFIG" => Kubeconfig,
                    "NO_COLOR" => colours ? null : "1",
                    "TERM" => "xterm-256color",
                    _ => null,
                },
            // Three days later, so that ages don't depend on how long the lab took to start.
            Time = new FakeTimeProvider(DateTimeOffset.UtcNow.AddDays(3)),
        };
        int code = await CliProgram.RunAsync([.. args], io, TestContext.Current.CancellationToken);
        return new Said(code, output.ToString(), error.ToString());
    }

    /// <summary>Compares with a golden file; PCI_GOLDEN=1 writes it.</summary>
    public static void Golden(string name, string text, [CallerFilePath] string here = "")
    {
        string file = Path.Combine(Path.GetDirectoryName(here)!, "Golden", name);
        if (Environment.GetEnvironmentVariable("PCI_GOLDEN") == "1")
            File.WriteAllText(file, text);
        Assert.Equal(File.ReadAllText(file), text);
    }

    /// <summary>The repository's folder.</summary>
    public static string Repository([CallerFilePath] string here = "") =>
        Path.GetFullPath(Path.Combine(Path.GetDirectoryName(here)!, "../.."));

    /// <summary>A file of config/samples.</summary>
    public static string Sample(string name) => File.ReadAllText(Path.Combine(Repository(), "config", "samples", name));

    private async Task ClaimAsync(string yaml, ClaimPhase phase)
    {
        string name = (await Manifests.ApplyAsync(Cluster.Client, yaml))[0]["metadata"]!["name"]!.GetValue<string>();
        await UntilAsync(async () =>
            (await Cluster.Client.GetAsync<PassthroughClaim>(name, "default"))?.Status is { } status
            && status.Phase == phase
            && (phase != ClaimPhase.Allocated || status.Conditions.IsTrue(Conditions.Ready))
        );
    }

    /// <summary>The kernel numbers IOMMU groups as functions come: golden files want one order.</summary>
    private async Task MakeVfsInOrderAsync(params string[] ports)
    {
        foreach (string port in ports)
        {
            await Manifests.ApplyAsync(
                Cluster.Client,
                $"""
                apiVersion: pcioperator.io/v1alpha1
                kind: PciDeviceSpec
                metadata:
                  name: first
                spec:
                  devices:
                    - address: "{port}"
                  sriov:
                    numVfs: 4
                """
            );
            await UntilAsync(async () =>
                (await Cluster.Client.ListAsync<PciNode>()).Items is { Count: 2 } nodes
                && nodes.All(n => n.Status?.Devices?.Any(d => d.Address == port && d.NumVfs == 4) == true)
            );
        }

        await Cluster.Client.DeleteAsync<PciDeviceSpec>("first");
    }

    private async Task<bool> SettledAsync()
    {
        IList<PciNode> nodes = (await Cluster.Client.ListAsync<PciNode>()).Items;
        return nodes.Count == Cluster.Nodes.Count
            && nodes.All(n =>
            {
                var rules = (n.Spec.Rules ?? []).ToDictionary(r => r.Name);
                return rules.Count > 0
                    && n.Status?.ObservedGeneration == n.Metadata.Generation
                    && n.Status?.Devices?.Count > 0
                    && (n.Status.Assignments?.Count ?? 0) == (n.Spec.Assignments?.Count ?? 0)
                    && (n.Status.Assignments ?? []).All(a => a.State == HoldingState.Prepared)
                    && n.Status.Devices.Where(d => d is { Type: DeviceType.Pf, Rule: not null })
                        .All(d => rules[d.Rule!].Sriov?.NumVfs is not { } wanted || d.NumVfs == wanted);
            });
    }

    private static async Task UntilAsync(Func<Task<bool>> holds)
    {
        DateTime end = DateTime.UtcNow + Patience;
        while (!await holds())
        {
            Assert.True(DateTime.UtcNow < end, "The lab did not settle.");
            await Task.Delay(20);
        }
    }
}
