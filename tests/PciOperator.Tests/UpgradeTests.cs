using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using k8s.Models;
using PciOperator.Api;
using PciOperator.Kubernetes;
using PciOperator.Sandbox.Cluster;
using PciOperator.Sandbox.Hosts;
using PciOperator.Testing;
using PciOperator.Tests.Docs;

namespace PciOperator.Tests;

/// <summary>
/// Today's version over what an earlier one left: its definitions and roles, objects of every kind as its controller and agents stored
/// them (<c>tests/upgrade/capture</c> ran them), and its hosts, with their journals, bound devices and VFs. On a real API server, today's
/// programs with the tokens of their service accounts.
/// </summary>
[Turns(6)]
public sealed class UpgradeTests : IAsyncLifetime
{
    private const string Own = "/apis/pcioperator.io/v1alpha1";
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(3);
    private static readonly string Earlier = Path.Combine(Kubectl.Repository, "tests", "upgrade", "earlier");

    /// <summary>Claims that were ready.</summary>
    private static readonly string[] Ready = ["beside", "database", "desktop", "firewall", "names", "render", "router", "storage-gateway"];

    private static readonly string[] OfTheServer =
    [
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ];

    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("pcioperator-upgrade-");
    private readonly RecordedLog _errors = new();
    private readonly Dictionary<string, SimulatedHost> _hosts = [];
    private readonly List<(SimulatedHost Host, int Pid)> _guests = [];
    private readonly Dictionary<string, string> _uids = [];
    private JsonObject _objects = null!;
    private TestApiServer _server = null!;
    private EntityClient _admin = null!;
    private SandboxCluster? _cluster;

    public async ValueTask InitializeAsync()
    {
        _server = await TestApiServer.RealAsync();
        _admin = _server.Client(ResourceJsonContext.WithOwnKinds);
        _objects = JsonNode.Parse(await File.ReadAllTextAsync(Path.Combine(Earlier, "objects.json")))!.AsObject();
    }

    public async ValueTask DisposeAsync()
    {
        if (_cluster is not null)
            await _cluster.DisposeAsync();
        _admin?.Dispose();
        if (_server is not null)
            await _server.DisposeAsync();
        _folder.Delete(recursive: true);
    }

    [TurnFact]
    public async Task By_kubectl_apply()
    {
        await InstallEarlierAsync(t => t, "apply", "-f", "-");
        await StoreAsync();
        await Kubectl.RunAsync(_server.KubeconfigText, "apply", "-k", Path.Combine(Kubectl.Repository, "config"), "--validate=strict");
        await GoOnAsync();
    }

    [TurnFact]
    public async Task By_the_chart()
    {
        string[] helm = ["--server-side", "--field-manager=helm"];
        await InstallEarlierAsync(t => t, ["apply", .. helm, "-f", "-"]);
        await StoreAsync();
        string chart = Helm.Text(await Helm.ObjectsAsync(Path.Combine(Kubectl.Repository, "charts", "pci-operator")));
        (int code, string said) = await Kubectl.TryAsync(
            _server.KubeconfigText,
            WithoutMonitoring(chart),
            ["apply", .. helm, "--validate=strict", "-f", "-"]
        );
        Assert.True(code == 0, said);
        await GoOnAsync();
    }

    /// <summary>As the README says.</summary>
    [TurnFact]
    public async Task From_a_version_that_had_its_controller_in_the_agents_namespace()
    {
        await InstallEarlierAsync(
            t =>
                t.Replace("namespace: pcioperator-controller", "namespace: pcioperator-system", StringComparison.Ordinal)
                    .Replace("serviceaccount:pcioperator-controller:", "serviceaccount:pcioperator-system:", StringComparison.Ordinal),
            "apply",
            "-f",
            "-"
        );
        // It did not say whose a PciNode is.
        foreach (JsonNode? node in _objects["pcinodes"]!.AsArray())
            node!["metadata"]!.AsObject().Remove("annotations");
        await StoreAsync();
        string[] commands =
        [
            .. MarkdownPage
                .Read("README.md")
                .Blocks.Single(b => b.Text.StartsWith("kubectl delete -n pcioperator-system ", StringComparison.Ordinal))
                .Commands(),
        ];
        Assert.Equal(2, commands.Length);
        foreach (string command in commands)
        {
            string[] words = command.Split(' ').Select(w => w == "config" ? Path.Combine(Kubectl.Repository, w) : w).ToArray();
            await Kubectl.RunAsync(_server.KubeconfigText, words[1..]);
        }

        string left = await Kubectl.RunAsync(
            _server.KubeconfigText,
            "get",
            "-n",
            "pcioperator-system",
            "deployment,pdb,networkpolicy,serviceaccount,role,rolebinding",
            "-o",
            "name"
        );
        Assert.DoesNotContain("pcioperator-controller", left, StringComparison.Ordinal);
        await GoOnAsync();
    }

    /// <summary>Today's programs on what is stored, to the end of every claim.</summary>
    private async Task GoOnAsync()
    {
        foreach (string kind in new[] { "passthroughclaims", "pcialiases", "pcidevicespecs", "pcinodes" })
        {
            using JsonDocument definition = await _admin.GetRawAsync(
                $"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{kind}.pcioperator.io"
            );
            Assert.Equal(
                ["v1alpha1"],
                definition.RootElement.GetProperty("status").GetProperty("storedVersions").EnumerateArray().Select(v => v.GetString())
            );
        }

        // Whatever today's rules are, what is stored can be touched.
        await Kubectl.RunAsync(_server.KubeconfigText, "label", "ptc,pa,pds,pn", "--all", "--all-namespaces", "touched=yes");

        // One of them could not be made any more.
        JsonObject names = _objects["passthroughclaims"]!.AsArray().Single(c => c!["metadata"]!["name"]!.ToString() == "names")!.AsObject();
        var again = new JsonObject
        {
            ["apiVersion"] = names["apiVersion"]!.DeepClone(),
            ["kind"] = names["kind"]!.DeepClone(),
            ["metadata"] = new JsonObject { ["name"] = "again" },
            ["spec"] = names["spec"]!.DeepClone(),
        };
        ApiException refused = await Assert.ThrowsAsync<ApiException>(() =>
            SendAsync(HttpMethod.Post, $"{Own}/namespaces/default/passthroughclaims", again)
        );
        Assert.Contains("a request can't be named as the devices of another are", refused.Message, StringComparison.Ordinal);

        Dictionary<string, PassthroughClaimStatus> before = [];
        foreach (string name in Ready)
            before[name] = (await ClaimAsync(name))!.Status!;
        _cluster = await SandboxCluster.ConnectAsync(
            _server.Configuration,
            new SandboxClusterOptions
            {
                Log = _errors,
                RunsPods = true,
                Controller = LabCluster.Quick with { DefaultDelivery = null, LeaderElect = true },
                ControllerAccess = ServiceAccounts.Access(_server, "pcioperator-controller"),
                AgentAccess = node => ServiceAccounts.Access(_server, "pcioperator-agent", node),
            }
        );
        _cluster.StartController();
        foreach ((string name, SimulatedHost host) in _hosts)
            await _cluster.AddNodeAsync(name, host);

        // Each has what it had, and is ready in today's words.
        foreach (string name in Ready)
        {
            PassthroughClaimStatus now = (
                await UntilAsync(
                    $"claim {name} to be ready",
                    () => ClaimAsync(name),
                    c =>
                        c.Status!.Conditions.IsTrue(Conditions.Ready)
                        && c.Status.Conditions.Find(Conditions.InUse) is not null
                        && c.Status.Phase == ClaimPhase.Allocated
                )
            ).Status!;
            Assert.Equal(before[name].NodeName, now.NodeName);
            Assert.Equal(before[name].Devices!.Select(d => (d.Address, d.Request)), now.Devices!.Select(d => (d.Address, d.Request)));
        }

        // What was cut off is finished, what can't be served waits on, what leaves waits for its guest.
        await UntilAsync("the claim that was cut off", () => ClaimAsync("cut"), c => c.Status!.Conditions.IsTrue(Conditions.Ready));
        Assert.Equal(ClaimPhase.Pending, (await ClaimAsync("waits"))!.Status!.Phase);
        Assert.Equal(ClaimPhase.Releasing, (await ClaimAsync("leaving"))!.Status!.Phase);
        foreach ((string name, SimulatedHost host) in _hosts)
        {
            PciNode node = await UntilAsync(
                $"the status of {name}",
                () => _admin.GetAsync<PciNode>(name),
                n =>
                    n.Status!.ObservedGeneration == n.Metadata.Generation
                    && n.Status.Conditions.IsTrue(Conditions.KubeletRegistered)
                    && n.Status.Unmatched is { Count: > 0 }
            );
            var held = node
                .Spec.Assignments!.Where(a => a.ClaimName is not "cut")
                .SelectMany(a => a.Devices)
                .Select(d => d.Address)
                .ToHashSet();
            // Nothing was unbound or bound of what claims had.
            Assert.DoesNotContain(host.Log, w => held.Any(a => w.Path.Contains(a, StringComparison.Ordinal) || w.Value == a));
        }

        Assert.DoesNotContain(_errors.Errors, e => e.Contains("can't be read", StringComparison.Ordinal));
        await ReleaseAllAsync();
    }

    private async Task ReleaseAllAsync()
    {
        foreach ((SimulatedHost host, int guest) in _guests)
            host.StopProcess(guest);
        foreach (PassthroughClaim claim in (await _admin.ListAsync<PassthroughClaim>()).Items)
            await _admin.DeleteAsync<PassthroughClaim>(claim.Metadata.Name!, "default");
        await UntilAsync("all claims to go", () => _admin.ListAsync<PassthroughClaim>()!, l => l.Items.Count == 0);
        JsonNode drivers = JsonNode.Parse(await File.ReadAllTextAsync(Path.Combine(Earlier, "drivers.json")))!;
        foreach ((string name, SimulatedHost host) in _hosts)
        {
            var at = drivers[name]!.AsObject().ToDictionary(d => d.Key, d => d.Value?.ToString());
            Assert.Equal(at.OrderBy(d => d.Key), LabCluster.DriversOf(host).OrderBy(d => d.Key));
            Assert.Empty(host.Files.List("/var/lib/pcioperator/journal"));
        }
    }

    /// <summary>The earlier version's definitions and program.</summary>
    private async Task InstallEarlierAsync(Func<string, string> change, params string[] apply)
    {
        foreach (string file in new[] { "crds.yaml", "program.yaml" })
        {
            (int code, string said) = await Kubectl.TryAsync(
                _server.KubeconfigText,
                change(await File.ReadAllTextAsync(Path.Combine(Earlier, file))),
                apply
            );
            Assert.True(code == 0, said);
            if (file == "crds.yaml")
                await Kubectl.RunAsync(_server.KubeconfigText, "wait", "--for=condition=Established", "crd", "--all");
        }
    }

    /// <summary>Its objects, under the UIDs that this server gives them, and its hosts.</summary>
    private async Task StoreAsync()
    {
        string[] nodes = [.. _objects["pcinodes"]!.AsArray().Select(n => n!["metadata"]!["name"]!.ToString())];
        for (int i = 0; i < nodes.Length; i++)
        {
            JsonNode host = JsonNode.Parse(await File.ReadAllTextAsync(Path.Combine(Earlier, $"{nodes[i]}.json")))!;
            await new SimulatedKubelet(_admin, nodes[i], bootId: () => host["BootId"]!.ToString()).RegisterAsync(LabHosts.Labels(i + 1));
            string of = _objects["pcinodes"]![i]!["metadata"]!["ownerReferences"]![0]!["uid"]!.ToString();
            _uids[of] = (await _admin.GetAsync<V1Node>(nodes[i]))!.Metadata.Uid!;
        }

        foreach (string kind in new[] { "pcidevicespecs", "pcialiases", "passthroughclaims", "pcinodes" })
        {
            foreach (JsonNode? stored in _objects[kind]!.AsArray())
                await StoreAsync(kind, JsonNode.Parse(Translated(stored!.ToJsonString()))!.AsObject());
        }

        foreach (string name in nodes)
        {
            JsonObject host = JsonNode.Parse(await File.ReadAllTextAsync(Path.Combine(Earlier, $"{name}.json")))!.AsObject();
            var files = new JsonObject();
            foreach ((string path, JsonNode? content) in host["Files"]!.AsObject())
            {
                string text = Encoding.Latin1.GetString(Convert.FromBase64String(content!.ToString()));
                files[Translated(path)] = Convert.ToBase64String(Encoding.Latin1.GetBytes(Translated(text)));
            }

            host["Files"] = files;
            string file = Path.Combine(_folder.FullName, $"{name}.json");
            await File.WriteAllTextAsync(file, host.ToJsonString());
            _hosts[name] = SimulatedHost.Open(file);
            _guests.AddRange(
                host["Processes"]!
                    .AsObject()
                    .Where(p => p.Value!["Name"]!.ToString() == "qemu")
                    .Select(p => (_hosts[name], int.Parse(p.Key)))
            );
        }
    }

    private async Task StoreAsync(string kind, JsonObject stored)
    {
        JsonObject metadata = stored["metadata"]!.AsObject();
        string uid = metadata["uid"]!.ToString(),
            name = metadata["name"]!.ToString();
        bool isGoing = metadata.ContainsKey("deletionTimestamp");
        bool isSeen = stored["status"]?["observedGeneration"]?.ToString() == metadata["generation"]?.ToString();
        foreach (string field in OfTheServer)
            metadata.Remove(field);
        JsonNode? status = stored["status"]?.DeepClone();
        string all = $"{Own}/{(metadata["namespace"] is { } ns ? $"namespaces/{ns}/" : "")}{kind}";
        JsonObject made = await SendAsync(HttpMethod.Post, all, stored);
        _uids[uid] = made["metadata"]!["uid"]!.ToString();
        if (isGoing)
            made = await SendAsync(HttpMethod.Delete, $"{all}/{name}", null);
        if (status is null)
            return;
        // Generations begin anew here.
        if (kind == "pcinodes")
            status["observedGeneration"] = isSeen ? made["metadata"]!["generation"]!.DeepClone() : 0;
        made["status"] = status;
        await SendAsync(HttpMethod.Put, $"{all}/{name}/status", made);
    }

    private string Translated(string text) => _uids.Aggregate(text, (t, uid) => t.Replace(uid.Key, uid.Value, StringComparison.Ordinal));

    private async Task<JsonObject> SendAsync(HttpMethod method, string path, JsonObject? body)
    {
        using JsonDocument answer = await _admin.SendRawAsync(
            method,
            path,
            body is null ? default : Encoding.UTF8.GetBytes(body.ToJsonString())
        );
        return JsonNode.Parse(answer.RootElement.GetRawText())!.AsObject();
    }

    /// <summary>The kinds of Prometheus' operator aren't on this server.</summary>
    private static string WithoutMonitoring(string yaml) =>
        Helm.Text(Helm.Read(yaml).Where(o => o["apiVersion"].ToString() != "monitoring.coreos.com/v1"));

    private Task<PassthroughClaim?> ClaimAsync(string name) => _admin.GetAsync<PassthroughClaim>(name, "default");

    private async Task<T> UntilAsync<T>(string what, Func<Task<T?>> read, Func<T, bool> holds)
        where T : class
    {
        T? now = null;
        for (DateTime end = DateTime.UtcNow + Patience; (now = await read()) is null || !holds(now); await Task.Delay(50))
        {
            if (DateTime.UtcNow > end)
            {
                string seen = now is PassthroughClaim or PciNode
                    ? JsonSerializer.Serialize(now, _admin.JsonOptions.GetTypeInfo(typeof(T)))
                    : "";
                Assert.Fail($"waited in vain for {what}: {string.Join('\n', _errors.Errors)}\n{seen}");
            }
        }

        return now;
    }
}
