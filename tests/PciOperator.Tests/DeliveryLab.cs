using System.Diagnostics;
using System.Text.Json.Nodes;
using k8s.Models;
using Microsoft.Extensions.Logging.Abstractions;
using PciOperator.Api;
using PciOperator.Controller;
using PciOperator.Core;
using PciOperator.Kubernetes;
using PciOperator.Sandbox.Cluster;
using PciOperator.Testing;

namespace PciOperator.Tests;

/// <summary>
/// A real API server and the real controller; nodes' agents say what the test wants them to, and the test plays kube-scheduler with the
/// writes that it makes.
/// </summary>
internal sealed class DeliveryLab : IAsyncDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(2);
    private readonly TestApiServer _server;
    private readonly SandboxCluster _cluster;
    private readonly CancellationTokenSource _stop = new();
    private readonly List<Task> _agents = [];

    private DeliveryLab(TestApiServer server, SandboxCluster cluster) => (_server, _cluster) = (server, cluster);

    public EntityClient Client => _cluster.Client;

    /// <summary>What agents say of an assignment: its state and reason.</summary>
    public Func<string, PciAssignment, (HoldingState State, string? Reason)> Agent { get; set; } = (_, _) => (HoldingState.Prepared, null);

    /// <summary>Whether a node's kubelet knows the agent's plugin.</summary>
    public Func<string, bool> Registered { get; set; } = _ => true;

    /// <summary>The extended resource that a node's kubelet has taken up for an assignment, and the pods that have it.</summary>
    public Func<PciAssignment, (string? Resource, string[] Pods)> Plugin { get; set; } = a => (a.ResourceName, []);

    /// <summary>Each node has one drive for each product, each in an IOMMU group of its own.</summary>
    public static async Task<DeliveryLab> StartAsync(
        int nodes,
        Action<DeliveryLab>? configure = null,
        Func<ControllerOptions, ControllerOptions>? options = null,
        Func<HttpMessageHandler, HttpMessageHandler>? wrap = null
    )
    {
        TestApiServer server = await TestApiServer.RealAsync();
        SandboxCluster cluster = await SandboxCluster.ConnectAsync(
            server.Configuration,
            new SandboxClusterOptions { Log = NullLogger.Instance, Wrap = wrap is null ? null : (_, inner) => wrap(inner) }
        );
        var lab = new DeliveryLab(server, cluster);
        configure?.Invoke(lab);
        await ViewHosts.RegisterAsync(cluster.Client, nodes);
        ControllerOptions quick = LabCluster.Quick with { DefaultDelivery = null };
        cluster.StartController(options?.Invoke(quick) ?? quick);
        for (int i = 1; i <= nodes; i++)
            lab._agents.Add(lab.RunAgentAsync($"node-{i}", lab._stop.Token));
        return lab;
    }

    public Task<PassthroughClaim> ClaimAsync(string name, int count = 1, Action<PassthroughClaimSpec>? configure = null)
    {
        var spec = new PassthroughClaimSpec
        {
            Requests =
            [
                new ClaimRequest
                {
                    Name = "gpu",
                    Alias = "drive-0a51",
                    Count = count,
                },
            ],
        };
        configure?.Invoke(spec);
        return Client.CreateAsync(
            new PassthroughClaim
            {
                Metadata = new V1ObjectMeta { Name = name, NamespaceProperty = "default" },
                Spec = spec,
            }
        );
    }

    public Task<PassthroughClaim?> GetAsync(string name) => Client.GetAsync<PassthroughClaim>(name, "default");

    public Task<Resourcev1ResourceClaim?> ResourceAsync(string name) => Client.GetAsync<Resourcev1ResourceClaim>(name, "default");

    public Task<V1ResourceSlice?> SliceAsync(PassthroughClaim claim) =>
        Client.GetAsync<V1ResourceSlice>(ResourceObjects.SliceName(claim.Metadata.Uid!));

    /// <summary>Waits until a condition of a claim is so.</summary>
    public Task<PassthroughClaim> SaysAsync(string name, string condition, string status, string reason) =>
        UntilAsync(
            $"claim {name} to say {condition}={status} ({reason})",
            () => GetAsync(name),
            c => c.Status?.Conditions.Find(condition) is { } said && said.Status == status && said.Reason == reason
        );

    public async Task<T> UntilAsync<T>(string what, Func<Task<T?>> read, Func<T, bool> holds)
        where T : class, k8s.IKubernetesObject<V1ObjectMeta>
    {
        var began = Stopwatch.StartNew();
        while (true)
        {
            T? now = await read();
            if (now is not null && holds(now))
                return now;
            if (began.Elapsed > Patience)
            {
                string seen = now is null
                    ? "nothing"
                    : System.Text.Json.JsonSerializer.Serialize(now, Client.JsonOptions.GetTypeInfo(typeof(T)));
                Assert.Fail($"waited in vain for {what}; last seen: {seen}");
            }

            await Task.Delay(20);
        }
    }

    public async Task GoneAsync<T>(string name, string? ns)
        where T : class, k8s.IKubernetesObject<V1ObjectMeta>
    {
        var began = Stopwatch.StartNew();
        while (await Client.GetAsync<T>(name, ns) is not null)
        {
            Assert.True(began.Elapsed < Patience, $"{typeof(T).Name} {name} is still there");
            await Task.Delay(20);
        }
    }

    /// <summary>What kube-scheduler writes when it takes a node for a pod: the allocation, and for which pod.</summary>
    public async Task AllocateAsync(string name, string node, string? pod) => await AllocateAsync((await GetAsync(name))!, name, node, pod);

    /// <summary>What kube-scheduler writes when it takes a claim's offer for a ResourceClaim.</summary>
    public async Task AllocateAsync(PassthroughClaim claim, string name, string node, string? pod)
    {
        // Which of the two the controller makes first is its own affair.
        await UntilAsync("the ResourceClaim", () => ResourceAsync(name), _ => true);
        V1ResourceSlice slice = await UntilAsync("the offer", () => SliceAsync(claim), _ => true);
        await SchedulerWrites.AllocateAsync(Client, slice, "default", name, node, pod);
    }

    /// <summary>What Kubernetes makes of a template for a pod.</summary>
    public async Task<Resourcev1ResourceClaim> FromTemplateAsync(string name)
    {
        string text = $$$$"""
            {"apiVersion":"resource.k8s.io/v1","kind":"ResourceClaim",
             "metadata":{"name":"{{{{name}}}}","namespace":"default","labels":{"pcioperator.io/passthrough":"true"},"annotations":{"resource.kubernetes.io/pod-claim-name":"gpu"},
               "ownerReferences":[{"apiVersion":"v1","kind":"Pod","name":"pod-of-{{{{name}}}}","uid":"uid-{{{{name}}}}","controller":true}]},
             "spec":{"devices":{
               "requests":[{"name":"gpu","exactly":{"deviceClassName":"pcioperator.io","selectors":[{"cel":{"expression":
                 "device.attributes[\"pcioperator.io\"].namespace == \"default\" && device.attributes[\"pcioperator.io\"].template == \"pool\" && device.attributes[\"pcioperator.io\"].request == \"gpu\""}}]}}],
               "config":[{"opaque":{"driver":"pcioperator.io","parameters":{"apiVersion":"pcioperator.io/v1alpha1","kind":"PassthroughRequest","requests":[{"name":"gpu","alias":"drive-0a51"}]}}}]}}}
            """;
        (
            await Client.SendRawAsync(
                HttpMethod.Post,
                "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims",
                System.Text.Encoding.UTF8.GetBytes(text)
            )
        ).Dispose();
        return (await ResourceAsync(name))!;
    }

    /// <summary>What is written when no pod has it any more.</summary>
    public Task DeallocateAsync(string name) => SchedulerWrites.DeallocateAsync(Client, "default", name);

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        await Task.WhenAll(_agents);
        await _cluster.DisposeAsync();
        await _server.DisposeAsync();
        _stop.Dispose();
    }

    private async Task RunAgentAsync(string name, CancellationToken ct)
    {
        string? last = null;
        while (!ct.IsCancellationRequested)
        {
            try
            {
                if (await Client.GetAsync<PciNode>(name, ct: ct) is { } node)
                {
                    string status = System.Text.Json.JsonSerializer.Serialize(
                        Report(name, node),
                        PciOperatorJsonContext.Default.PciNodeStatus
                    );
                    if (status != last)
                    {
                        var patch = new JsonArray(
                            new JsonObject
                            {
                                ["op"] = "add",
                                ["path"] = "/status",
                                ["value"] = JsonNode.Parse(status),
                            }
                        );
                        await Client.PatchAsync<PciNode>(name, null, EntityPatch.Json(patch.ToJsonString()), "status", ct);
                        last = status;
                    }
                }

                await Task.Delay(20, ct);
            }
            catch (Exception error) when (error is OperationCanceledException or ApiException)
            {
                // Told to stop, or somebody was quicker: looked at again.
            }
        }
    }

    private PciNodeStatus Report(string name, PciNode node)
    {
        PciNodeStatus shown = ViewHosts.Node(name, "0a51", "0a52").Status!;
        return shown with
        {
            ObservedGeneration = node.Metadata.Generation,
            BootId = "boot-1",
            Conditions = (
                shown.Conditions!.Select(c => c with { LastTransitionTime = DateTimeOffset.UnixEpoch.UtcDateTime }).ToList()
                as IReadOnlyList<V1Condition>
            ).With(Conditions.KubeletRegistered, Registered(name), "Registered", "", null, DateTimeOffset.UnixEpoch),
            Assignments =
            [
                .. (node.Spec.Assignments ?? []).Select(a =>
                {
                    (HoldingState state, string? reason) = Agent(name, a);
                    (string? resource, string[] pods) = Plugin(a);
                    return new AssignmentStatus
                    {
                        ClaimUid = a.ClaimUid,
                        State = state,
                        Reason = reason,
                        ResourceName = resource,
                        Pods = pods.Length > 0 ? pods : null,
                        Devices = [.. a.Devices.Select(d => new AssignedDeviceStatus { Address = d.Address, Driver = "vfio-pci" })],
                    };
                }),
            ],
        };
    }
}
