using System.Text.Json.Nodes;
using Microsoft.Extensions.Logging.Abstractions;
using PciOperator.Sandbox.Cluster;
using PciOperator.Testing;

namespace PciOperator.Cli.Tests;

/// <summary>VMs as an API server has them: with all that KubeVirt writes besides, or forbidden, or without KubeVirt.</summary>
public sealed class VmCommandTests : IAsyncLifetime
{
    private const string Vms = """
        {apiVersion: v1, kind: Namespace, metadata: {name: kubevirt}}
        ---
        apiVersion: kubevirt.io/v1
        kind: KubeVirt
        metadata: {name: kubevirt, namespace: kubevirt}
        spec: {configuration: {developerConfiguration: {featureGates: [HostDevices], cpuAllocationRatio: 10}}, imagePullPolicy: Always}
        status: {observedKubeVirtVersion: v1.9.0, phase: Deployed}
        ---
        apiVersion: pcioperator.io/v1alpha1
        kind: PassthroughClaim
        metadata: {name: vision, namespace: default}
        spec: {requests: [{name: gpu, alias: nv2080}]}
        ---
        apiVersion: kubevirt.io/v1
        kind: VirtualMachine
        metadata: {name: vision, namespace: default}
        spec:
          runStrategy: Always
          template:
            metadata: {labels: {app: vision}}
            spec:
              resourceClaims: [{name: card, resourceClaimName: visoin}]
              domain:
                cpu: {cores: 4}
                memory: {guest: 8Gi}
                devices:
                  gpus: [{name: gpu, claimName: card, requestName: gpu}]
                  disks: [{name: root, disk: {bus: virtio}}, {name: init, disk: {bus: virtio}}]
              volumes:
                - {name: root, containerDisk: {image: registry.example.com/disk}}
                - {name: init, cloudInitNoCloud: {userData: "#cloud-config hunter2"}}
        status: {printableStatus: ErrorUnschedulable, created: true, ready: false, volumeSnapshotStatuses: [{enabled: false, name: root}]}
        ---
        apiVersion: kubevirt.io/v1
        kind: VirtualMachineInstance
        metadata: {name: vision, namespace: default}
        spec:
          resourceClaims: [{name: card, resourceClaimName: visoin}]
          domain: {devices: {gpus: [{name: gpu, claimName: card, requestName: gpu}]}}
          volumes: [{name: init, cloudInitNoCloud: {userData: "#cloud-config hunter2"}}]
        status: {phase: Scheduling, activePods: {u: n}, phaseTransitionTimestamps: [{phase: Pending, phaseTransitionTimestamp: "2026-01-01T00:00:00Z"}], conditions: [{type: Ready, status: "False", lastProbeTime: null, lastTransitionTime: "2026-01-01T00:00:00Z", reason: GuestNotRunning}]}
        ---
        apiVersion: kubevirt.io/v1
        kind: VirtualMachine
        metadata: {name: bare, namespace: default}
        spec: {runStrategy: Always}
        ---
        apiVersion: v1
        kind: Pod
        metadata:
          name: virt-launcher-vision-abcde
          namespace: default
          labels: {kubevirt.io: virt-launcher}
          ownerReferences: [{apiVersion: kubevirt.io/v1, kind: VirtualMachineInstance, name: vision, uid: u, controller: true}]
        spec: {containers: [{name: compute, image: i}], resourceClaims: [{name: card, resourceClaimName: vision}]}
        status: {phase: Pending, conditions: [{type: PodScheduled, status: "False", message: "0/1 nodes are available: waiting for resource claim"}]}
        """;

    private readonly string _folder = Directory.CreateTempSubdirectory("kubectl-pci-").FullName;
    private SandboxCluster _cluster = null!;

    public async ValueTask InitializeAsync() =>
        _cluster = await SandboxCluster.StartAsync(new SandboxClusterOptions { Log = NullLogger.Instance });

    public async ValueTask DisposeAsync()
    {
        await _cluster.DisposeAsync();
        Directory.Delete(_folder, recursive: true);
    }

    [Fact]
    public async Task A_VM_is_diagnosed_and_its_pod_is_not_told_twice()
    {
        await MakeAsync();
        Said said = await RunAsync(_cluster.KubeconfigText!, "diagnose", "-o", "json");
        Assert.Equal((ExitCodes.No, ""), (said.Code, said.Error));
        JsonNode found = Assert.Single(
            JsonNode.Parse(said.Out)!["items"]!.AsArray(),
            f => !Text(f, "where").StartsWith("claim", StringComparison.Ordinal)
        )!;
        Assert.Equal(("vm default/vision", "DoesNotStart"), (Text(found, "where"), Text(found, "type")));
        Assert.StartsWith("Claim vision is there", Text(found, "fix"), StringComparison.Ordinal);
        Assert.Contains("vm default/vision", (await RunAsync(_cluster.KubeconfigText!, "diagnose")).Out, StringComparison.Ordinal);

        static string Text(JsonNode? finding, string field) => finding![field]!.GetValue<string>();
    }

    [Fact]
    public async Task Without_KubeVirt_and_without_the_rights_one_warning_says_so_and_all_else_is_told()
    {
        Said without = await RunAsync(_cluster.KubeconfigText!, "diagnose");
        Assert.Equal((ExitCodes.Ok, ""), (without.Code, without.Error));

        await MakeAsync();
        await using FrontServer tenant = await FrontServer.StartAsync(
            _cluster.Client,
            async c =>
                c.Request.Path.Value!.EndsWith("/virtualmachineinstances", StringComparison.Ordinal) && await FrontServer.ForbidAsync(c)
        );
        Said forbidden = await RunAsync(tenant.KubeconfigText, "diagnose", "-o", "name");
        Assert.Equal("warning: you may not list VirtualMachines and their instances: VMs are not looked at\n", forbidden.Error);
        Assert.Contains("claim default/vision: Waiting", forbidden.Out, StringComparison.Ordinal);
        // The pod is told by itself then.
        Assert.Contains("pod default/virt-launcher-vision-abcde: DoesNotStart", forbidden.Out, StringComparison.Ordinal);

        await using FrontServer half = await FrontServer.StartAsync(
            _cluster.Client,
            async c =>
                (
                    c.Request.Path.Value!.EndsWith("/resourceclaims", StringComparison.Ordinal)
                    || c.Request.Path.Value!.EndsWith("/kubevirts", StringComparison.Ordinal)
                ) && await FrontServer.ForbidAsync(c)
        );
        Said partly = await RunAsync(half.KubeconfigText, "diagnose", "-o", "name");
        Assert.Equal("warning: you may not list KubeVirts, ResourceClaims: less is known of why VMs don't start\n", partly.Error);
    }

    [Fact]
    public async Task A_support_bundle_has_VMs_without_what_their_volumes_carry()
    {
        await MakeAsync();
        string file = Path.Combine(_folder, "bundle.tar.gz");
        Said said = await RunAsync(_cluster.KubeconfigText!, "collect", "--file", file);
        Assert.Equal(ExitCodes.Ok, said.Code);
        IReadOnlyDictionary<string, string> entries = await Bundle.ReadAsync(file);

        Assert.Contains("\"visoin\"", entries["pci-collect/virtualmachines.json"], StringComparison.Ordinal);
        Assert.Contains("\"Scheduling\"", entries["pci-collect/virtualmachineinstances.json"], StringComparison.Ordinal);
        Assert.Contains("v1.9.0", entries["pci-collect/kubevirts.json"], StringComparison.Ordinal);
        Assert.All(entries, e => Assert.DoesNotContain("hunter2", e.Value, StringComparison.Ordinal));
    }

    private async Task MakeAsync()
    {
        await KubeVirtKinds.InstallAsync(_cluster.Client, "kubevirts", "virtualmachines", "virtualmachineinstances");
        await Manifests.ApplyAsync(_cluster.Client, Vms, ct: TestContext.Current.CancellationToken);
    }

    private async Task<Said> RunAsync(string kubeconfig, params string[] args)
    {
        string file = Path.Combine(_folder, "kubeconfig");
        await File.WriteAllTextAsync(file, kubeconfig);
        using var output = new StringWriter();
        using var error = new StringWriter();
        using var io = new CliIo
        {
            Out = output,
            Error = error,
            Environment = name => name == "KUBECONFIG" ? file : null,
        };
        int code = await CliProgram.RunAsync(args, io, TestContext.Current.CancellationToken);
        return new Said(code, output.ToString(), error.ToString());
    }
}
