using System.Collections.Concurrent;
using System.Text;
using Grpc.Core;
using Microsoft.Extensions.Logging.Abstractions;
using PciOperator.Api;
using PciOperator.Kubernetes;
using PciOperator.Sandbox.Cluster;
using PciOperator.Sandbox.Hosts;
using PciOperator.Testing;

namespace PciOperator.Tests;

/// <summary>
/// kill -9 of the agent, as a process, before and after each write by which it hands devices to a kubelet or takes them back, while the kubelet asks
/// again and again as a real one does: every claim is answered in the end, always the same, what is on disk is whole at every moment and gone
/// afterwards, and no device is handed out twice.
/// </summary>
[Turns(9, first: 1)]
public sealed class HandoutKillTests(ITestOutputHelper output)
{
    private static readonly string[] HandedOut = ["checkpoint", "metadata", "CDI of metadata", "CDI of devices", "allocation"];

    [TurnFact]
    public async Task The_agent_is_killed_at_every_write_of_prepare_and_unprepare()
    {
        await using NodeLab lab = await NodeLab.StartAsync();
        await lab.ReadyAsync("vm", Delivery.None);
        await lab.ReadyAsync("router", Delivery.None);
        IReadOnlyList<string> points = await PointsAsync(lab, LiveAsync);

        // Two pods' claims, and a third that comes in the place of one: four files each, and the shared name's metadata stays for its successor.
        Assert.Equal(12, points.Count(p => p.EndsWith(" write", StringComparison.Ordinal)));
        Assert.True(points.Count(p => p.EndsWith(" delete", StringComparison.Ordinal)) >= 11, string.Join(", ", points));
        await KillAtAsync(lab, points, LiveAsync);
    }

    [TurnFact]
    public async Task The_agent_is_killed_at_every_write_by_which_a_deleted_claims_devices_are_taken_back()
    {
        await using NodeLab lab = await NodeLab.StartAsync();
        IReadOnlyList<string> points = await PointsAsync(lab, WithdrawAsync);
        Assert.Contains("1 allocation write", points);
        Assert.Contains("1 allocation delete", points);
        Assert.Contains("1 checkpoint delete", points);
        await KillAtAsync(lab, points, WithdrawAsync);
    }

    /// <summary>The writes and removals of what is handed out, in a life that nobody disturbs.</summary>
    private static async Task<IReadOnlyList<string>> PointsAsync(NodeLab lab, Func<NodeLab, Task> live) =>
        [
            .. (await lab.Agent.TraceAsync(() => live(lab))).Where(p =>
                HandedOut.Any(h => p[(p.IndexOf(' ', StringComparison.Ordinal) + 1)..].StartsWith(h + " ", StringComparison.Ordinal))
            ),
        ];

    private async Task KillAtAsync(NodeLab lab, IReadOnlyList<string> points, Func<NodeLab, Task> live)
    {
        var missed = new List<string>();
        int kills = 0;
        foreach (string point in TestScope.Share(points, 8))
        {
            foreach (string when in new[] { "before", "after" })
            {
                int deaths = lab.Agent.Deaths;
                await lab.Agent.SayAsync($"arm {when} {point}");
                await live(lab);
                Assert.True(lab.Broken.IsEmpty, $"killed {when} {point}: {string.Join("; ", lab.Broken)}");
                bool hit = lab.Agent.Deaths > deaths;
                kills += hit ? 1 : 0;
                output.WriteLine($"{(hit ? "killed" : "MISSED")} {when} {point}");
                if (!hit)
                    missed.Add($"{when} {point}");
            }
        }

        output.WriteLine($"{points.Count} points, {kills} kills");
        Assert.Empty(missed);
        Assert.True(kills > 0, "nothing was killed");
    }

    /// <summary>Two pods come and go; the ResourceClaim of one was deleted and made again under its name, and nobody had said that the first is over.</summary>
    private static async Task LiveAsync(NodeLab lab)
    {
        PodClaim vm = await lab.AllocateAsync("vm", "default");
        PodClaim router = await lab.AllocateAsync("router", "default");
        PodClaim forged = await lab.AllocateAsync("router", "other");
        await lab.PrepareAsync(vm, router, forged);
        await lab.ForgetAsync(vm);
        PodClaim next = await lab.AllocateAsync("vm", "default");
        await lab.PrepareAsync(next, router, forged);
        Assert.Equal("", await lab.Kubelet.EndPodInTheEndAsync(DraNames.Driver, vm));
        lab.Complete(next, router);
        foreach (PodClaim pods in new[] { forged, next, router })
            Assert.Equal("", await lab.Kubelet.EndPodInTheEndAsync(DraNames.Driver, pods));
        Assert.Empty(lab.Written());
        foreach (PodClaim claim in new[] { next, router, forged })
            await lab.ForgetAsync(claim);
    }

    /// <summary>A claim by each plugin, from its making until its devices are home, while the kubelet never says that a pod has ended.</summary>
    private static async Task WithdrawAsync(NodeLab lab)
    {
        await lab.ReadyAsync("vm", Delivery.None);
        string nic = await lab.ReadyAsync("nic", Delivery.DevicePlugin);
        PodClaim vm = await lab.AllocateAsync("vm", "default");
        await lab.PrepareAsync(vm);
        string pod = await lab.AdmitAsync("nic", nic);
        lab.Devices.End("default", pod);
        await lab.DeleteAsync("vm");
        await lab.DeleteAsync("nic");
        Assert.Empty(lab.Written());
        Assert.Equal("", await lab.Kubelet.EndPodInTheEndAsync(DraNames.Driver, vm));
        await lab.ForgetAsync(vm);
        Assert.Equal(lab.Home, LabCluster.DriversOf(lab.Host()).OrderBy(d => d.Key, StringComparer.Ordinal));
    }

    /// <summary>A controller in this process, an agent in its own on a host that a file keeps, and the kubelet of that host.</summary>
    private sealed class NodeLab : IAsyncDisposable
    {
        private const string Node = "node-1";

        // Short, since a socket's path is.
        private const string KubeletFolder = "/k";
        private const string Claims = "/apis/resource.k8s.io/v1/namespaces";
        private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);
        private readonly ConcurrentDictionary<string, string> _first = new();
        private readonly string _root;
        private readonly string _hostFile;
        private readonly TestApiServer _server;
        private readonly SandboxCluster _cluster;

        private NodeLab(string root, TestApiServer server, SandboxCluster cluster, KillableProgram agent)
        {
            (_root, _server, _cluster, Agent) = (root, server, cluster, agent);
            _hostFile = Path.Combine(root, "host.json");
            Kubelet = new KubeletDouble(root, KubeletFolder);
            Devices = new DeviceManagerDouble(root, KubeletFolder);
            Agent.WhenDead = Look;
        }

        public KillableProgram Agent { get; }

        public KubeletDouble Kubelet { get; }

        public DeviceManagerDouble Devices { get; }

        /// <summary>What was wrong with what a killed agent left.</summary>
        public ConcurrentQueue<string> Broken { get; } = new();

        /// <summary>Every function with the driver that it has when nobody claims it.</summary>
        public IReadOnlyList<KeyValuePair<string, string?>> Home { get; private set; } = [];

        private EntityClient Client => _cluster.Client;

        public static async Task<NodeLab> StartAsync()
        {
            string root = Directory.CreateTempSubdirectory("k").FullName;
            TestApiServer server = await TestApiServer.SandboxAsync(
                new Sandbox.ApiServer.SandboxApiServerOptions { Validators = Sandbox.Validation.OwnResourceRules.Validators }
            );
            SandboxCluster cluster = await SandboxCluster.ConnectAsync(
                server.Configuration,
                new SandboxClusterOptions { Log = NullLogger.Instance, Controller = LabCluster.Quick }
            );
            await File.WriteAllTextAsync(Path.Combine(root, "kubeconfig"), server.KubeconfigText);
            LabHosts.Create(1).SaveTo(Path.Combine(root, "host.json"));
            await Manifests.ApplyAsync(cluster.Client, "{apiVersion: v1, kind: Namespace, metadata: {name: other}}");
            foreach (string sample in new[] { "device-specs", "aliases" })
            {
                string yaml = await File.ReadAllTextAsync(Path.Combine(AppContext.BaseDirectory, "samples", sample + ".yaml"));
                await Manifests.ApplyAsync(cluster.Client, yaml);
            }

            var kubelet = new SimulatedKubelet(cluster.Client, Node);
            await kubelet.RegisterAsync();
            await kubelet.SetAgentReadyAsync(true);
            cluster.StartController();
            var agent = new KillableProgram(
                "agent",
                "--kubeconfig",
                Path.Combine(root, "kubeconfig"),
                "--node-name",
                Node,
                "--host",
                Path.Combine(root, "host.json"),
                "--socket-root",
                root,
                "--kubelet-dir",
                KubeletFolder
            );
            var lab = new NodeLab(root, server, cluster, agent);
            lab.Kubelet.Start();
            await lab.Devices.StartAsync();
            await lab.Kubelet.WaitForPluginAsync(DraNames.Driver);
            await UntilAsync(
                "the node's VFs",
                async () =>
                    await lab.Client.GetAsync<PciNode>(Node)
                        is { Spec.Rules: { Count: > 0 } rules, Status: { Devices.Count: > 0 } status } now
                    && status.ObservedGeneration == now.Metadata.Generation
                    && status
                        .Devices.Where(d => d is { Type: Core.DeviceType.Pf, Rule: not null })
                        .All(d => rules.First(r => r.Name == d.Rule).Sriov?.NumVfs is not { } wanted || d.NumVfs == wanted)
            );
            lab.Home = [.. LabCluster.DriversOf(lab.Host()).OrderBy(d => d.Key, StringComparer.Ordinal)];
            return lab;
        }

        /// <summary>The host as it is on disk now.</summary>
        public SimulatedHost Host() => SimulatedHost.Open(_hostFile);

        /// <summary>Makes a claim and waits until it is ready: the extended resource that it has, if any.</summary>
        public async Task<string> ReadyAsync(string name, Delivery delivery)
        {
            await Client.CreateAsync(
                new PassthroughClaim
                {
                    Metadata = new() { Name = name, NamespaceProperty = "default" },
                    Spec = new() { Requests = [new() { Name = "nic", Alias = "a1" }], Delivery = delivery },
                }
            );
            PassthroughClaim? claim = null;
            await UntilAsync(
                $"{name} to be Ready",
                async () =>
                    (claim = await Client.GetAsync<PassthroughClaim>(name, "default"))?.Status?.Conditions.IsTrue(Conditions.Ready) == true
            );
            return claim!.Status!.ResourceName ?? "";
        }

        public async Task DeleteAsync(string name)
        {
            await Client.DeleteAsync<PassthroughClaim>(name, "default");
            await UntilAsync($"{name} to go", async () => await Client.GetAsync<PassthroughClaim>(name, "default") is null);
        }

        /// <summary>A ResourceClaim of a PassthroughClaim's name with its devices allocated, as kube-scheduler would leave it.</summary>
        public async Task<PodClaim> AllocateAsync(string name, string ns)
        {
            PassthroughClaim claim = (await Client.GetAsync<PassthroughClaim>(name, "default"))!;
            string owners =
                ns == "default"
                    ? $$"""[{"apiVersion":"pcioperator.io/v1alpha1","kind":"PassthroughClaim","name":"{{name}}","uid":"{{claim.Metadata.Uid}}","controller":true}]"""
                    : "[]";
            string metadata = $$"""{"name":"{{name}}","namespace":"{{ns}}","ownerReferences":{{owners}}}""";
            string body =
                $$"""{"apiVersion":"resource.k8s.io/v1","kind":"ResourceClaim","metadata":{{metadata}},"spec":{"devices":{"requests":[{"name":"nic","exactly":{"deviceClassName":"pcioperator.io","allocationMode":"ExactCount","count":1} }]} } }""";
            (await Client.SendRawAsync(HttpMethod.Post, $"{Claims}/{ns}/resourceclaims", Encoding.UTF8.GetBytes(body))).Dispose();
            string pool = DraNames.Pool(claim.Metadata.Uid!);
            string status =
                $$"""{"status":{"allocation":{"devices":{"results":[{"request":"nic","driver":"{{DraNames.Driver}}","pool":"{{pool}}","device":"nic"}]} } } }""";
            using System.Text.Json.JsonDocument allocated = await Client.SendRawAsync(
                HttpMethod.Patch,
                $"{Claims}/{ns}/resourceclaims/{name}/status",
                Encoding.UTF8.GetBytes(status),
                "application/merge-patch+json"
            );
            return new PodClaim(ns, name, allocated.RootElement.GetProperty("metadata").GetProperty("uid").GetString()!);
        }

        /// <summary>The ResourceClaim is deleted; the kubelet has not heard of it.</summary>
        public async Task ForgetAsync(PodClaim claim)
        {
            try
            {
                (
                    await Client.SendRawAsync(HttpMethod.Delete, $"{Claims}/{claim.Namespace}/resourceclaims/{claim.Name}", default)
                ).Dispose();
            }
            catch (ApiException gone) when (gone.IsNotFound)
            {
                // It went with its owner.
            }
        }

        /// <summary>
        /// A kubelet prepares claims in one call, until all of them are answered: those of the namespace get their devices, those of
        /// another never do.
        /// </summary>
        public async Task PrepareAsync(params PodClaim[] claims)
        {
            IReadOnlyDictionary<string, PreparedAnswer> answers = new Dictionary<string, PreparedAnswer>();
            await UntilAsync(
                "all claims to be prepared",
                async () =>
                {
                    try
                    {
                        answers = await Kubelet.PrepareAsync(DraNames.Driver, claims);
                    }
                    catch (Exception e) when (e is RpcException or InvalidOperationException)
                    {
                        return false; // killed, or not back yet
                    }

                    Assert.Equal(claims.Select(c => c.Uid).Order(StringComparer.Ordinal), answers.Keys.Order(StringComparer.Ordinal));
                    // Asked again after a kill it is the answer of before.
                    foreach ((string uid, PreparedAnswer given) in answers.Where(a => a.Value.Error.Length == 0))
                    {
                        string said = string.Join(
                            ", ",
                            given.Devices.Select(d => $"{d.Request} {d.Pool} {d.Device} {string.Join(' ', d.CdiIds)}")
                        );
                        Assert.Equal(said, _first.GetOrAdd(uid, said));
                    }

                    return claims.All(c => (answers[c.Uid].Error.Length == 0) == (c.Namespace == "default"));
                }
            );
            foreach (PodClaim claim in claims.Where(c => c.Namespace != "default"))
                Assert.Contains("which only that namespace may use", answers[claim.Uid].Error, StringComparison.Ordinal);
            PodClaim[] own = [.. claims.Where(c => c.Namespace == "default")];
            foreach (PodClaim claim in own)
            {
                PreparedAnswerDevice device = Assert.Single(answers[claim.Uid].Devices);
                Assert.Equal(("nic", "nic"), (device.Request, device.Device));
                string address = (await Client.GetAsync<PassthroughClaim>(claim.Name, "default"))!.Status!.Devices!.Single().Address;
                var container = ContainerDouble.Make(Host().Files, device.CdiIds);
                Assert.Equal(address, container.AddressOf(claim.Name, "nic"));
                Assert.Contains($"/dev/vfio/{Host().Find(address)!.Group}", container.Nodes);
            }

            Complete(own);
        }

        /// <summary>Of these claims everything is on disk, and of no others anything.</summary>
        public void Complete(params PodClaim[] claims) =>
            Assert.Equal(
                claims
                    .SelectMany(c =>
                        new[]
                        {
                            $"{SimulatedHost.StateDirectory}/resource-claims/{c.Uid}.json",
                            $"{KubeletFolder}/plugins/{DraNames.Driver}/dra-device-metadata/{c.Namespace}_{c.Name}/nic/metadata.json",
                            $"/var/run/cdi/{DraNames.Driver}_metadata_{c.Uid}_nic.json",
                            $"/var/run/cdi/{DraNames.Driver}_claim_{c.Uid}.json",
                        }
                    )
                    .Order(StringComparer.Ordinal),
                Written()
            );

        /// <summary>All that was handed out, as it is on disk.</summary>
        public IReadOnlyList<string> Written()
        {
            SimulatedHost host = Host();
            return
            [
                .. new[]
                {
                    "/var/run/cdi",
                    KubeletFolder,
                    SimulatedHost.StateDirectory + "/resource-claims",
                    SimulatedHost.StateDirectory + "/allocations",
                }
                    .SelectMany(folder => host.FilesBelow(folder).Keys)
                    .Order(StringComparer.Ordinal),
            ];
        }

        /// <summary>
        /// A pod with the claim's resource comes to run: one that the kubelet could not admit, since the plugin was killed, has failed, and
        /// the next is tried; a container that could not be started is started again.
        /// </summary>
        public async Task<string> AdmitAsync(string claim, string resource)
        {
            string address = (await Client.GetAsync<PassthroughClaim>(claim, "default"))!.Status!.Devices!.Single().Address;
            string pod = "";
            AllocatedContainer? container = null;
            int pods = 0;
            await UntilAsync(
                "a pod to be admitted",
                async () =>
                {
                    try
                    {
                        pod = $"pod-{++pods}";
                        container = await Devices.AdmitAsync("default", pod, resource, 1);
                        return true;
                    }
                    catch (Exception e) when (e is RpcException or InvalidOperationException)
                    {
                        return false;
                    }
                }
            );
            Assert.Equal(address, Assert.Single(container!.Environment).Value);
            Assert.Contains(container.Nodes, n => n.Path == $"/dev/vfio/{Host().Find(address)!.Group}");
            await UntilAsync(
                "its container to start",
                async () =>
                {
                    try
                    {
                        await Devices.StartContainerAsync("default", pod);
                        return true;
                    }
                    catch (Exception e) when (e is RpcException or InvalidOperationException)
                    {
                        return false;
                    }
                }
            );
            return pod;
        }

        public async ValueTask DisposeAsync()
        {
            await Agent.DisposeAsync();
            await Kubelet.DisposeAsync();
            await Devices.DisposeAsync();
            await _cluster.DisposeAsync();
            await _server.DisposeAsync();
            Directory.Delete(_root, recursive: true);
        }

        /// <summary>
        /// What a container runtime would find at the moment of a kill: CDI files that it can read, whose nodes and mounts are there, and no
        /// device in two of them.
        /// </summary>
        private void Look()
        {
            try
            {
                SimulatedHost host = Host();
                IReadOnlyDictionary<string, byte[]> cdi = host.FilesBelow("/var/run/cdi");
                List<(string Id, CdiEdits Edits)> found = [.. cdi.Values.SelectMany(CdiFile.Read)];
                foreach ((string id, CdiEdits edits) in found)
                {
                    Assert.All(edits.Nodes, n => Assert.True(host.Files.DeviceAt(n) is not null, $"{id} names {n}, which is not there"));
                    Assert.All(
                        edits.Mounts,
                        m =>
                            Assert.True(
                                host.Files.ReadBytes(m.HostPath, 1 << 20) is not null,
                                $"{id} mounts {m.HostPath}, which is not there"
                            )
                    );
                }

                List<string> nodes =
                [
                    .. found.SelectMany(f => f.Edits.Nodes.Distinct()).Where(n => n != "/dev/vfio/vfio" && n != "/dev/iommu"),
                ];
                Assert.Equal(nodes.Distinct().Count(), nodes.Count);
                foreach (string name in cdi.Keys.Where(n => n.Contains("_claim_", StringComparison.Ordinal)))
                {
                    string uid = name[(name.LastIndexOf('_') + 1)..];
                    Assert.Contains($"{SimulatedHost.StateDirectory}/resource-claims/{uid}", Written());
                }
            }
#pragma warning disable CA1031 // said by the test, which is on another thread
            catch (Exception e)
#pragma warning restore CA1031
            {
                Broken.Enqueue(e.Message);
            }
        }

        private static async Task UntilAsync(string what, Func<Task<bool>> holds)
        {
            for (DateTime end = DateTime.UtcNow + Patience; !await holds(); await Task.Delay(20))
                Assert.True(DateTime.UtcNow < end, $"waited in vain for {what}");
        }
    }
}
