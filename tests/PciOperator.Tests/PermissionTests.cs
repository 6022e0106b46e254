using System.Collections.Concurrent;
using System.Text;
using k8s.Models;
using Microsoft.Extensions.Logging;
using PciOperator.Api;
using PciOperator.Controller;
using PciOperator.Core;
using PciOperator.Kubernetes;
using PciOperator.Sandbox.Cluster;
using PciOperator.Sandbox.Hosts;
using PciOperator.Testing;

namespace PciOperator.Tests;

/// <summary>
/// Every permission that <c>config/</c> and the chart give is needed, and what lacks one says which: one life of a cluster (claims by every
/// way, templates, quotas, a node that goes, events, the lease and its release) on a real API server, the programs with the tokens of their
/// service accounts.
/// </summary>
/// <remarks>
/// With all permissions each has to be used by that life, so that one that nothing needs fails. Then the life is lived once more without each
/// of them: it has to come to the point where the program's log names the verb and the resource (what <c>/readyz</c> says comes of the same
/// place, <see cref="MissingRights"/>), and to its end when the permission is given back, with no restart. It is enough that the life stops
/// there: who reads the log, or sees that the pod isn't Ready, knows what to add to which role; and a permission whose lack the programs
/// didn't notice would let the life go by, which fails.
/// </remarks>
[Turns(4)]
public sealed class PermissionTests : IAsyncLifetime
{
    private const string Controller = "system:serviceaccount:pcioperator-controller:pcioperator-controller";
    private const string Agent = "system:serviceaccount:pcioperator-system:pcioperator-agent";
    private const string Node = "node-1";

    /// <summary>
    /// kube-apiserver asks for it besides (KEP-4680's status, since Kubernetes 1.36), so that no request shows it, and the test API server
    /// doesn't.
    /// </summary>
    private const string AskedBesides = "resourceclaims/driver";
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(3);
    private readonly UseRecorder _uses = new();
    private readonly RecordedLog _log = new();
    private readonly ConcurrentDictionary<string, TaskCompletionSource> _awaited = new();
    private TestApiServer _server = null!;
    private SandboxCluster _cluster = null!;
    private Permissions _permissions = null!;
    private PassthroughClaim? _orphan;
    private Func<Task>? _stopController;

    private EntityClient Client => _cluster.Client;

    public async ValueTask InitializeAsync()
    {
        _log.Heard += Hear;
        _server = await TestApiServer.RealAsync();
        await ConfigAsync("apply", "-k", "config", "--validate=strict");
        await ConfigAsync("apply", "-f", "config/kubevirt/permitted-host-devices.yaml", "--validate=strict");
        using EntityClient admin = _server.Client();
        await InstallKubeVirtAsync(admin);
        await KubernetesRolesAsync(admin);
        _cluster = await SandboxCluster.ConnectAsync(
            _server.Configuration,
            new SandboxClusterOptions
            {
                Log = _log,
                RunsPods = true,
                Controller = LabCluster.Quick with { DefaultDelivery = null, LeaderElect = true },
                ControllerAccess = ServiceAccounts.Access(_server, "pcioperator-controller"),
                AgentAccess = node => ServiceAccounts.Access(_server, "pcioperator-agent", node),
                ClaimControllerAccess = ServiceAccounts.Access(_server, "resource-claim-controller", ns: "kube-system"),
                Wrap = (program, inner) => _uses.Wrap(program == "controller" ? Controller : Agent, inner),
            }
        );
        _permissions = new Permissions(Client);
        _stopController = _cluster.StartController();
        await _cluster.AddNodeAsync(Node, LabHosts.Create(1), LabHosts.Labels(1));
        await ApplyAsync(await File.ReadAllTextAsync(Path.Combine(AppContext.BaseDirectory, "samples", "device-specs.yaml")));
        string template = await File.ReadAllTextAsync(Path.Combine(Kubectl.Repository, "config", "samples", "kubevirt", "vm-pool.yaml"));
        await ApplyAsync(Manifests.Read(template).First().ToJsonString());
        await ApplyAsync(Alias("a1"));
        await UntilAsync(
            "the inventory",
            async () =>
                (await Client.GetAsync<PciNode>(Node))?.Status?.Devices?.Any(d =>
                    d is { Type: DeviceType.Vf, State: DeviceState.Available }
                ) == true
        );
        _orphan = await LeaveAsync(0);
    }

    public async ValueTask DisposeAsync()
    {
        if (_cluster is not null)
            await _cluster.DisposeAsync();
        if (_server is not null)
            await _server.DisposeAsync();
    }

    [TurnFact]
    public async Task Each_permission_of_controller_and_agent_is_used_and_without_one_the_program_says_which()
    {
        IReadOnlyList<Permission> all =
        [
            .. (await _permissions.OfAsync(SandboxCluster.ControllerNamespace, SandboxCluster.Namespace)).Where(p =>
                p.Resource != AskedBesides
            ),
        ];
        Assert.Equal([Controller, Agent], all.Select(p => p.User).Distinct().OrderByDescending(u => u == Controller));
        // What is given twice can be taken away once without anybody noticing.
        Assert.Equal(
            [],
            all.Where(p =>
                    p.Namespace is not null && all.Any(o => o.Namespace is null && (o with { Role = p.Role, Namespace = p.Namespace }) == p)
                )
                .Select(p => p.ToString())
        );

        _uses.Clear();
        await LiveAsync(0);
        Assert.Equal([], all.Where(p => !_uses.HasUsed(p)).Select(p => p.ToString()));

        int number = 0;
        foreach (Permission taken in TestScope.Share(all, 41))
        {
            IAsyncDisposable back = await _permissions.WithoutAsync(taken);
            _uses.Clear();
            Task said = NextAsync(taken.Refusal);
            Task lives = LiveAsync(++number);
            Task first = await Task.WhenAny(said, lives, Task.Delay(Patience));
            if (first != said)
            {
                string life = !lives.IsCompleted ? "hangs" : lives.Exception?.InnerException?.Message ?? "went by";
                Assert.Fail($"Without {taken} nobody said: {taken.Refusal}. Life {number}: {life}");
            }

            await back.DisposeAsync();
            try
            {
                await lives;
            }
            catch (Exception failed)
            {
                throw new InvalidOperationException($"After {taken} was given back: {failed.Message}", failed);
            }
        }
    }

    /// <summary>Everything that controller and agent do, with programs that start anew.</summary>
    private async Task LiveAsync(int life)
    {
        await (_stopController?.Invoke() ?? Task.CompletedTask);
        await _cluster.Nodes[Node].StopAgentAsync();
        await Client.DeleteAsync<V1Lease>("pcioperator-controller", SandboxCluster.ControllerNamespace);
        PassthroughClaim orphan = _orphan!;
        await RemoveAsync(orphan);
        _stopController = _cluster.StartController();
        await _cluster.Nodes[Node].StartAgentAsync();

        await UntilAsync("the devices of who is gone to be withdrawn", async () => !await IsAssignedAsync(orphan));
        await NodeGoesAsync($"other-{life}");
        await OwnKindsAsync(life);
        await ByClaimAsync($"own-{life}", $"alias-{life}", $"quota-{life}");
        await ByTemplateAsync($"worker-{life}");
        await ByDevicePluginAsync($"vm-{life}");
        await EventsAsync($"bad-{life}");

        foreach (string claim in new[] { "own", "vm" })
            await Client.DeleteAsync<PassthroughClaim>($"{claim}-{life}", "default");
        await UntilAsync("claims to go", async () => (await Client.ListAsync<PassthroughClaim>()).Items.Count == 0);
        await Client.DeleteAsync<PciAlias>($"alias-{life}");
        await Client.DeleteAsync<PciQuota>($"quota-{life}");
        await Client.DeleteAsync<PciDeviceSpec>($"spec-{life}");
        await Client.DeleteAsync<V1Pod>($"bad-{life}", "default", new DeleteOptions { GracePeriodSeconds = 0 });
        _orphan = await LeaveAsync(life + 1);
        // An orderly end, with the lease released.
        await _stopController();
        _stopController = null;
    }

    private async Task NodeGoesAsync(string name)
    {
        var kubelet = new SimulatedKubelet(Client, name);
        await kubelet.RegisterAsync();
        await UntilAsync($"PciNode {name}", async () => await Client.GetAsync<PciNode>(name) is not null);
        await kubelet.RemoveAsync();
        await UntilAsync($"the end of PciNode {name}", async () => await Client.GetAsync<PciNode>(name) is null);
    }

    private async Task OwnKindsAsync(int life)
    {
        await ApplyAsync(
            $$"""
            apiVersion: pcioperator.io/v1alpha1
            kind: PciDeviceSpec
            metadata: {name: spec-{{life}}}
            spec: {nodeSelector: {none: such}, devices: [{vendorId: "8086", productId: "0a54"}]}
            ---
            apiVersion: pcioperator.io/v1alpha1
            kind: PciQuota
            metadata: {name: quota-{{life}}}
            spec: {namespaces: [default], limits: [{alias: alias-{{life}}, devices: 4}]}
            """
        );
        await UntilAsync("the spec's status", async () => (await Client.GetAsync<PciDeviceSpec>($"spec-{life}"))?.Status is not null);
    }

    /// <summary>A claim under a quota, delivered by DRA; others write at the wrong moment, and take labels away.</summary>
    private async Task ByClaimAsync(string name, string alias, string quota)
    {
        PassthroughClaim claim = await ClaimAsync(name, alias);
        // A slice of its name that is somebody else's.
        string slice = ResourceObjects.SliceName(claim.Metadata.Uid!);
        await ApplyAsync(
            $$"""
            apiVersion: resource.k8s.io/v1
            kind: ResourceSlice
            metadata: {name: {{slice}}}
            spec: {driver: other.example.com, nodeName: {{Node}}, pool: {name: p, generation: 1, resourceSliceCount: 1} }
            """
        );
        _uses.BeforeNext(
            "update",
            "pciquotas/status",
            () => MergeAsync($"{Own}/pciquotas/{quota}", """{"metadata":{"labels":{"a":"b"}}}""")
        );
        await ApplyAsync(Alias(alias));
        await UntilAsync("the alias' status", async () => (await Client.GetAsync<PciAlias>(alias))?.Status is not null);
        await UntilAsync("a look at the slice that is in the way", () => HasAsked(Controller, "get", "resourceslices"));
        await Client.DeleteAsync<V1ResourceSlice>(slice);
        await UntilAsync("the ResourceClaim", async () => await Client.GetAsync<Resourcev1ResourceClaim>(name, "default") is not null);
        await MergeAsync(
            $"/apis/resource.k8s.io/v1/namespaces/default/resourceclaims/{name}",
            $$"""{"metadata":{"labels":{"{{ResourceObjects.Label}}":null} } }"""
        );
        await UntilAsync(
            "the label",
            async () =>
                (await Client.GetAsync<Resourcev1ResourceClaim>(name, "default"))?.Metadata.Labels?.ContainsKey(ResourceObjects.Label)
                == true
        );
    }

    private async Task ByTemplateAsync(string pod)
    {
        // Somebody changes the PciNode just before devices are assigned.
        _uses.BeforeNext(
            "patch",
            "pcinodes",
            async () =>
            {
                bool isSaid = (await Client.GetAsync<PciNode>(Node))!.Spec.Settling is not null;
                await MergeAsync($"{Own}/pcinodes/{Node}", $$"""{"spec":{"settling":{{(isSaid ? "null" : "false")}} } }""");
            }
        );
        await ApplyAsync(
            $$"""
            apiVersion: v1
            kind: Pod
            metadata: {name: {{pod}}, namespace: default}
            spec:
              resourceClaims: [{name: devices, resourceClaimTemplateName: worker-nic}]
              containers: [{name: compute, image: i, resources: {claims: [{name: devices}] } }]
            """
        );
        await UntilAsync("the pod to run", async () => (await Client.GetAsync<V1Pod>(pod, "default"))?.Status?.Phase == "Running");
        await Client.DeleteAsync<V1Pod>(pod, "default", new DeleteOptions { GracePeriodSeconds = 0 });
        await UntilAsync(
            "the template's claim to go",
            async () => (await Client.ListAsync<PassthroughClaim>("default")).Items.All(c => TemplateClaim.OwnerOf(c) is null)
        );
    }

    private async Task ByDevicePluginAsync(string name)
    {
        await ClaimAsync(name, "a1", "DevicePlugin");
        await UntilAsync("a write of KubeVirt's list", () => HasAsked(Controller, "patch", "kubevirts"));
    }

    /// <summary>A claim that has devices when the next life begins.</summary>
    private async Task<PassthroughClaim> LeaveAsync(int life)
    {
        PassthroughClaim claim = await ClaimAsync($"orphan-{life}", "a1");
        await UntilAsync("an assignment", () => IsAssignedAsync(claim));
        return claim;
    }

    /// <summary>Somebody removes it by force, while no controller is there.</summary>
    private async Task RemoveAsync(PassthroughClaim orphan)
    {
        await MergeAsync($"{Own}/namespaces/default/passthroughclaims/{orphan.Metadata.Name}", """{"metadata":{"finalizers":[]}}""");
        await Client.DeleteAsync<PassthroughClaim>(orphan.Metadata.Name!, "default");
    }

    private async Task<bool> IsAssignedAsync(PassthroughClaim claim) =>
        (await Client.GetAsync<PciNode>(Node))?.Spec.Assignments?.Any(a => a.ClaimUid == claim.Metadata.Uid) == true;

    /// <summary>Something happens twice, to a ResourceClaim and to a node.</summary>
    private async Task EventsAsync(string name)
    {
        await ApplyAsync(
            $"{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: default}}, spec: {{nodeName: nowhere, containers: [{{name: c, image: i}}]}}}}"
        );
        string? pod = (await Client.GetAsync<V1Pod>(name, "default"))!.Metadata.Uid;
        await ApplyAsync(
            $$"""
            apiVersion: resource.k8s.io/v1
            kind: ResourceClaim
            metadata:
              name: {{name}}
              namespace: default
              labels: {pcioperator.io/passthrough: "true"}
              ownerReferences: [{apiVersion: v1, kind: Pod, name: {{name}}, uid: {{pod}}, controller: true}]
            spec: {devices: {requests: [{name: gpu, exactly: {deviceClassName: pcioperator.io} }] } }
            """
        );
        int times = 0;
        await UntilAsync(
            "events of the controller",
            async () =>
            {
                await MergeAsync(
                    $"/apis/resource.k8s.io/v1/namespaces/default/resourceclaims/{name}",
                    $$"""{"metadata":{"labels":{"times":"{{++times}}"} } }"""
                );
                await Task.Delay(100);
                return HasAsked(Controller, "patch", "events");
            }
        );
        await UntilAsync(
            "events of the agent",
            async () =>
            {
                await MergeAsync(
                    $"{Own}/pcinodes/{Node}",
                    $$"""{"metadata":{"annotations":{"{{PciOperatorApi.FreeAnnotation}}":"0000:21:00.0"} } }"""
                );
                await Task.Delay(100);
                return HasAsked(Agent, "patch", "events");
            }
        );
    }

    private const string Own = "/apis/pcioperator.io/v1alpha1";

    private bool HasAsked(string user, string verb, string resource) => _uses.HasAsked(user, verb, resource);

    private static string Alias(string name) =>
        $"{{apiVersion: pcioperator.io/v1alpha1, kind: PciAlias, metadata: {{name: {name}}}, spec: {{devices: [{{vendorId: '8086', productId: 10ca, deviceType: type-VF}}]}}}}";

    private async Task<PassthroughClaim> ClaimAsync(string name, string alias, string delivery = "DRA")
    {
        await ApplyAsync(
            $$"""
            apiVersion: pcioperator.io/v1alpha1
            kind: PassthroughClaim
            metadata: {name: {{name}}, namespace: default}
            spec: {delivery: {{delivery}}, requests: [{name: nic, alias: {{alias}}}]}
            """
        );
        return (await Client.GetAsync<PassthroughClaim>(name, "default"))!;
    }

    private Task ApplyAsync(string yaml) => Manifests.ApplyAsync(Client, yaml);

    private async Task MergeAsync(string path, string patch) =>
        (await Client.SendRawAsync(HttpMethod.Patch, path, Encoding.UTF8.GetBytes(patch), "application/merge-patch+json")).Dispose();

    private static Task UntilAsync(string what, Func<bool> holds) => UntilAsync(what, () => Task.FromResult(holds()));

    private static async Task UntilAsync(string what, Func<Task<bool>> holds)
    {
        for (DateTime end = DateTime.UtcNow + Patience; !await holds(); await Task.Delay(20))
            Assert.True(DateTime.UtcNow < end, $"waited in vain for {what}");
    }

    private Task ConfigAsync(params string[] arguments) =>
        Kubectl.RunAsync(
            _server.KubeconfigText,
            [.. arguments.Select(a => a.StartsWith("config", StringComparison.Ordinal) ? Path.Combine(Kubectl.Repository, a) : a)]
        );

    private static async Task InstallKubeVirtAsync(EntityClient admin)
    {
        await KubeVirtKinds.InstallAsync(admin, "kubevirts");
        await Manifests.ApplyAsync(
            admin,
            "{apiVersion: kubevirt.io/v1, kind: KubeVirt, metadata: {name: kubevirt}, spec: {configuration: {permittedHostDevices: {}}}}"
        );
    }

    /// <summary>What Kubernetes' own role gives to the controller of ResourceClaims. Claims are deleted by our controller alone.</summary>
    private static Task KubernetesRolesAsync(EntityClient admin) =>
        Manifests.ApplyAsync(
            admin,
            """
            apiVersion: rbac.authorization.k8s.io/v1
            kind: ClusterRole
            metadata: {name: kubernetes}
            rules:
              - {apiGroups: [""], resources: [pods, pods/status], verbs: ["*"]}
              - {apiGroups: [resource.k8s.io], resources: ["*"], verbs: ["*"]}
              - {apiGroups: [pcioperator.io], resources: [passthroughclaims], verbs: [list]}
            ---
            apiVersion: rbac.authorization.k8s.io/v1
            kind: ClusterRoleBinding
            metadata: {name: kubernetes}
            roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: kubernetes}
            subjects: [{kind: ServiceAccount, namespace: kube-system, name: resource-claim-controller}]
            """
        );

    /// <summary>Completes when a program logs something with that in it.</summary>
    private Task NextAsync(string text) =>
        (_awaited[text] = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously)).Task;

    private void Hear(LogLevel level, string line)
    {
        // The simulated kubelet's words about pods don't count.
        if (level < LogLevel.Information || line.StartsWith("pod ", StringComparison.Ordinal))
            return;
        if (Environment.GetEnvironmentVariable("LAB_LOG") is { Length: > 0 })
            Console.Error.WriteLine($"{level}: {line}");
        foreach ((string text, TaskCompletionSource said) in _awaited)
        {
            if (line.Contains(text, StringComparison.Ordinal))
                said.TrySetResult();
        }
    }
}
