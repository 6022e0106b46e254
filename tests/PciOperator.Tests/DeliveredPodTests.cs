using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using k8s.Models;
using Microsoft.Extensions.Logging.Abstractions;
using PciOperator.Api;
using PciOperator.Kubernetes;
using PciOperator.Sandbox.Cluster;
using PciOperator.Sandbox.Hosts;
using PciOperator.Testing;

namespace PciOperator.Tests;

/// <summary>
/// From a claim to the pod that has its devices, on a real API server with all of <c>config/</c>: the real controller and agents with
/// their own tokens, and kube-scheduler and ResourceClaims' controller with no more rights than they have, so that the policies ask each of them.
/// </summary>
[Turns(3)]
public sealed class DeliveredPodTests : IAsyncLifetime
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);
    private TestApiServer _server = null!;
    private SandboxCluster _cluster = null!;

    public async ValueTask InitializeAsync()
    {
        _server = await TestApiServer.RealAsync();
        await Kubectl.RunAsync(_server.KubeconfigText, "apply", "-k", Path.Combine(Kubectl.Repository, "config"), "--validate=strict");
        using EntityClient admin = _server.Client();
        // What Kubernetes' own roles give to these two.
        await Manifests.ApplyAsync(
            admin,
            """
            apiVersion: rbac.authorization.k8s.io/v1
            kind: ClusterRole
            metadata: {name: kubernetes}
            rules:
              - {apiGroups: [""], resources: [pods, pods/status, pods/binding, nodes], verbs: ["*"]}
              - {apiGroups: [events.k8s.io], resources: [events], verbs: ["*"]}
              - {apiGroups: [resource.k8s.io], resources: ["*"], verbs: ["*"]}
              - {apiGroups: [pcioperator.io], resources: [passthroughclaims], verbs: [list, delete]}
            ---
            apiVersion: rbac.authorization.k8s.io/v1
            kind: ClusterRoleBinding
            metadata: {name: kubernetes}
            roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: kubernetes}
            subjects:
              - {kind: ServiceAccount, namespace: kube-system, name: resource-claim-controller}
              - {kind: ServiceAccount, namespace: kube-system, name: scheduler}
            """
        );
        _cluster = await SandboxCluster.ConnectAsync(
            _server.Configuration,
            new SandboxClusterOptions
            {
                Log = NullLogger.Instance,
                RunsPods = true,
                Controller = LabCluster.Quick with { DefaultDelivery = null },
                ControllerAccess = ServiceAccounts.Access(_server, "pcioperator-controller"),
                AgentAccess = node => ServiceAccounts.Access(_server, "pcioperator-agent", node),
                SchedulerAccess = ServiceAccounts.Access(_server, "scheduler", ns: "kube-system"),
                ClaimControllerAccess = ServiceAccounts.Access(_server, "resource-claim-controller", ns: "kube-system"),
            }
        );
        _cluster.StartController();
        for (int i = 1; i <= 2; i++)
            await _cluster.AddNodeAsync($"node-{i}", LabHosts.Create(i), LabHosts.Labels(i));
        foreach (string sample in new[] { "device-specs", "aliases" })
        {
            await Manifests.ApplyAsync(
                _cluster.Client,
                await File.ReadAllTextAsync(Path.Combine(AppContext.BaseDirectory, "samples", sample + ".yaml"))
            );
        }
    }

    public async ValueTask DisposeAsync()
    {
        if (_cluster is not null)
            await _cluster.DisposeAsync();
        if (_server is not null)
            await _server.DisposeAsync();
    }

    [TurnTheory]
    [InlineData("Immediate")]
    [InlineData("WaitForFirstConsumer")]
    public async Task A_pod_gets_the_devices_of_its_claim_and_so_does_the_next(string mode)
    {
        await ApplyAsync(
            $$"""
            apiVersion: pcioperator.io/v1alpha1
            kind: PassthroughClaim
            metadata: {name: c, namespace: default}
            spec:
              bindingMode: {{mode}}
              requests: [{name: nic, alias: a1, count: 2}, {name: disk, alias: nvme}]
            """
        );
        await ApplyAsync(Pod("one"));
        (string node, IReadOnlyList<PodDevice> devices) = await DevicesAsync("one");
        PassthroughClaim claim = await ClaimAsync(c => c.Status?.Conditions.IsTrue(Conditions.Ready) == true);
        Assert.Equal(claim.Status!.NodeName, node);
        Assert.Equal(["disk", "nic-0", "nic-1"], devices.Select(d => d.Request).Order(StringComparer.Ordinal));
        Assert.Equal(
            claim.Status.Devices!.Select(d => d.Address).Order(StringComparer.Ordinal),
            devices.Select(d => d.Address).Order(StringComparer.Ordinal)
        );

        // A VM that is restarted is another pod, and finds the same devices.
        await _cluster.Client.DeleteAsync<V1Pod>("one", "default", new DeleteOptions { GracePeriodSeconds = 0 });
        await ApplyAsync(Pod("two"));
        (string nodeOfNext, IReadOnlyList<PodDevice> devicesOfNext) = await DevicesAsync("two");
        Assert.Equal(node, nodeOfNext);
        Assert.Equal(
            devices.OrderBy(d => d.Request, StringComparer.Ordinal).Select(d => (d.Request, d.Address)),
            devicesOfNext.OrderBy(d => d.Request, StringComparer.Ordinal).Select(d => (d.Request, d.Address))
        );

        // It is given back when its last pod is gone, and not before.
        await _cluster.Client.DeleteAsync<PassthroughClaim>("c", "default");
        await ClaimAsync(c => c.Status?.Conditions.Find(Conditions.InUse)?.Message.Contains("two", StringComparison.Ordinal) == true);
        Assert.Contains("two", (await PodNamesAsync()));
        await _cluster.Client.DeleteAsync<V1Pod>("two", "default", new DeleteOptions { GracePeriodSeconds = 0 });
        await UntilAsync("the claim to go", async () => await _cluster.Client.GetAsync<PassthroughClaim>("c", "default") is null);
        SimulatedHost host = _cluster.Nodes[node].Host;
        Assert.All(devices, d => Assert.NotEqual("vfio-pci", LabCluster.DriverOf(host, d.Address)));
        Assert.Empty(host.Files.List("/var/run/cdi"));
    }

    [TurnFact]
    public async Task A_DeviceClass_that_lets_everything_through_gives_nobody_elses_device_away()
    {
        await ApplyAsync(
            """
            apiVersion: pcioperator.io/v1alpha1
            kind: PassthroughClaim
            metadata: {name: c, namespace: default}
            spec: {requests: [{name: disk, alias: nvme}]}
            ---
            apiVersion: v1
            kind: Namespace
            metadata: {name: other}
            ---
            apiVersion: resource.k8s.io/v1
            kind: DeviceClass
            metadata: {name: any}
            spec: {}
            ---
            apiVersion: resource.k8s.io/v1
            kind: ResourceClaim
            metadata: {name: thief, namespace: other}
            spec: {devices: {requests: [{name: disk, exactly: {deviceClassName: any}}]}}
            """
        );
        await ClaimAsync(c => c.Status?.Conditions.IsTrue(Conditions.Ready) == true);
        await ApplyAsync(Pod("thief", "thief", "other"));
        await UntilAsync(
            "the refusal",
            async () =>
            {
                using JsonDocument pod = await _cluster.Client.GetRawAsync("/api/v1/namespaces/other/pods/thief");
                return pod.RootElement.GetRawText().Contains("is another PassthroughClaim's", StringComparison.Ordinal);
            }
        );
        using JsonDocument claim = await _cluster.Client.GetRawAsync("/apis/resource.k8s.io/v1/namespaces/other/resourceclaims/thief");
        Assert.False(claim.RootElement.TryGetProperty("status", out JsonElement status) && status.TryGetProperty("allocation", out _));

        // The one whose it is has it meanwhile.
        await ApplyAsync(Pod("one"));
        Assert.Single((await DevicesAsync("one")).Devices);
    }

    [TurnFact]
    public async Task Each_pod_of_a_template_gets_devices_of_its_own_and_they_go_back_with_it()
    {
        string sample = await File.ReadAllTextAsync(Path.Combine(Kubectl.Repository, "config", "samples", "kubevirt", "vm-pool.yaml"));
        await ApplyAsync(Manifests.Read(sample).First().ToJsonString());
        foreach (string name in new[] { "one", "two" })
            await ApplyAsync(Pod(name, "worker-nic").Replace("resourceClaimName", "resourceClaimTemplateName", StringComparison.Ordinal));
        var got = new List<(string Node, string Address)>();
        foreach (string name in new[] { "one", "two" })
        {
            (string node, IReadOnlyList<PodDevice> devices) = await DevicesAsync(name);
            got.Add((node, Assert.Single(devices).Address));
        }

        Assert.Distinct(got);
        foreach (string name in new[] { "one", "two" })
            await _cluster.Client.DeleteAsync<V1Pod>(name, "default", new DeleteOptions { GracePeriodSeconds = 0 });
        await UntilAsync("the claims to go", async () => (await _cluster.Client.ListAsync<PassthroughClaim>("default")).Items.Count == 0);
        Assert.All(got, g => Assert.NotEqual("vfio-pci", LabCluster.DriverOf(_cluster.Nodes[g.Node].Host, g.Address)));
    }

    private static string Pod(string name, string claim = "c", string ns = "default") =>
        $$"""
            apiVersion: v1
            kind: Pod
            metadata: {name: {{name}}, namespace: {{ns}}}
            spec:
              resourceClaims: [{name: devices, resourceClaimName: {{claim}}}]
              containers: [{name: compute, image: i, resources: {claims: [{name: devices}], requests: {cpu: "4"} } }]
            """;

    private Task ApplyAsync(string yaml) => Manifests.ApplyAsync(_cluster.Client, yaml);

    private async Task<(string Node, IReadOnlyList<PodDevice> Devices)> DevicesAsync(string pod)
    {
        (string, IReadOnlyList<PodDevice>) found = default;
        await UntilAsync(
            $"pod {pod} to run",
            async () =>
            {
                V1Pod? now = await _cluster.Client.GetAsync<V1Pod>(pod, "default");
                if (now?.Spec?.NodeName is not { Length: > 0 } node)
                    return false;
                bool runs = _cluster.Pods[node].Running.TryGetValue(now.Metadata.Uid, out IReadOnlyList<PodDevice>? devices);
                found = (node, devices ?? []);
                return runs;
            }
        );
        return found;
    }

    private async Task<PassthroughClaim> ClaimAsync(Func<PassthroughClaim, bool> holds)
    {
        PassthroughClaim? claim = null;
        await UntilAsync(
            "the claim to say so",
            async () => (claim = await _cluster.Client.GetAsync<PassthroughClaim>("c", "default")) is not null && holds(claim)
        );
        return claim!;
    }

    private async Task<IEnumerable<string>> PodNamesAsync() =>
        (await _cluster.Client.ListAsync<V1Pod>("default")).Items.Select(p => p.Metadata.Name);

    private async Task UntilAsync(string what, Func<Task<bool>> holds)
    {
        for (DateTime end = DateTime.UtcNow + Patience; !await holds(); await Task.Delay(50))
        {
            if (DateTime.UtcNow > end)
                Assert.Fail($"waited in vain for {what}: {await SeenAsync()}");
        }
    }

    private async Task<string> SeenAsync()
    {
        var seen = new StringBuilder();
        foreach (
            string path in new[]
            {
                "/api/v1/pods",
                "/apis/resource.k8s.io/v1/resourceclaims",
                "/apis/resource.k8s.io/v1/resourceslices",
                "/apis/pcioperator.io/v1alpha1/passthroughclaims",
                "/apis/events.k8s.io/v1/events",
            }
        )
        {
            using JsonDocument answer = await _cluster.Client.GetRawAsync(path);
            foreach (JsonNode? item in JsonNode.Parse(answer.RootElement.GetRawText())!["items"]!.AsArray())
            {
                item!["metadata"]!.AsObject().Remove("managedFields");
                seen.AppendLine().Append(item.ToJsonString());
            }
        }

        return seen.ToString();
    }
}
