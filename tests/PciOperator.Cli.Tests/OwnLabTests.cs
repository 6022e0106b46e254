using System.Net;
using System.Text;
using System.Text.Json.Nodes;
using k8s.Models;
using Microsoft.Extensions.Logging.Abstractions;
using PciOperator.Api;
using PciOperator.Cli.Do;
using PciOperator.Cli.Output;
using PciOperator.Kubernetes;
using PciOperator.Sandbox.Cluster;
using PciOperator.Sandbox.Hosts;

namespace PciOperator.Cli.Tests;

/// <summary>What changes a cluster, and clusters that are odd: each test has an API server of its own, without any program.</summary>
public sealed class OwnLabTests : IAsyncDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("kubectl-pci-").FullName;
    private SandboxCluster? _cluster;

    private string Kubeconfig => Path.Combine(_folder, "kubeconfig");

    public async ValueTask DisposeAsync()
    {
        if (_cluster is not null)
            await _cluster.DisposeAsync();
        Directory.Delete(_folder, recursive: true);
    }

    [Fact]
    public async Task Text_of_the_cluster_is_never_markup_and_never_an_escape()
    {
        const string evil = "[red]x[/] [/] \u001b]0;pwned\u0007\u001b[2J\u009b31m \u202egnp\u2066 end";
        await StartAsync();
        await ClaimWithAsync(evil);
        await NodeWithAsync(evil);
        foreach (
            string line in (string[])
                [
                    "claims",
                    "claims -o wide",
                    "claims -o json",
                    "claims -o yaml",
                    "claims -o name",
                    "explain evil",
                    "devices -o wide",
                    "devices --all -o yaml",
                    "discover",
                    "discover -o json",
                    "discover -o name",
                    "topology n1",
                    "diagnose",
                    "groups -o wide",
                    "who 21:00.0 -o wide",
                    "free 21:00.0",
                ]
        )
        {
            foreach (int width in (int[])[0, 60, 200])
            {
                Said said = await RunAsync(width, line.Split(' '));
                Assert.True(said.Code is ExitCodes.Ok or ExitCodes.No, $"{line}: {said.Error}");
                Assert.DoesNotContain(said.Out + said.Error, c => (char.IsControl(c) && c != '\n') || c is '\u202e' or '\u2066');
            }
        }

        Assert.Contains("[red]x[/]", (await RunAsync(0, "claims")).Out, StringComparison.Ordinal);
        string coloured = (await RunAsync(120, ["claims"], colours: true)).Out;
        Assert.Contains("\u001b[", coloured, StringComparison.Ordinal);
        Assert.DoesNotContain("\u001b]", coloured, StringComparison.Ordinal);
        Assert.DoesNotContain("\u001b[2J", coloured, StringComparison.Ordinal);
    }

    [Fact]
    public async Task What_is_discovered_can_be_applied_and_is_served()
    {
        await StartAsync();
        Cluster.StartController();
        await Cluster.AddNodeAsync("node-1", LabHosts.Create(1), LabHosts.Labels(1));
        Said proposal = await UntilAsync(["discover"], ExitCodes.Ok);
        Assert.Equal((ExitCodes.Ok, ""), (proposal.Code, proposal.Error));
        // The lab's own: management NIC, boot disk, boot display.
        string notes = string.Join(' ', proposal.Out.Split('\n').TakeWhile(l => l.StartsWith('#')));
        Assert.All(["0000:01:00.0", "0000:02:00.0", "0000:03:00.0"], refused => Assert.Contains(refused, notes, StringComparison.Ordinal));
        Assert.Contains("unmatched", Line((await RunAsync(0, "devices", "--all")).Out, "0000:24:00.0"), StringComparison.Ordinal);
        Assert.Contains("unmatched", (await RunAsync(0, "who", "24:00.0")).Out, StringComparison.Ordinal);
        string list = (await RunAsync(0, "discover", "-o", "json")).Out;
        Assert.Equal("List", JsonNode.Parse(list)!["kind"]!.GetValue<string>());
        Assert.Contains(
            "pcialias.pcioperator.io/geforce-rtx-2080-ti\n",
            (await RunAsync(0, "discover", "-o", "name")).Out,
            StringComparison.Ordinal
        );

        await Manifests.ApplyAsync(Cluster.Client, proposal.Out);
        Said after = await UntilAsync(["discover"], ExitCodes.No);
        Assert.Contains("Nothing to propose", after.Error, StringComparison.Ordinal);
        Assert.Equal(ExitCodes.Ok, (await UntilAsync(["simulate", "--alias", "geforce-rtx-2080-ti:2"], ExitCodes.Ok)).Code);
    }

    [Fact]
    public async Task What_a_namespace_may_not_have_is_said_whatever_nodes_have()
    {
        await StartAsync();
        await Manifests.ApplyAsync(
            Cluster.Client,
            """
            apiVersion: pcioperator.io/v1alpha1
            kind: PciAlias
            metadata: {name: gold}
            spec:
              devices: [{vendorId: "10de", productId: "1eb8"}]
              namespaceSelector: {matchLabels: {tier: gold}}
            ---
            apiVersion: pcioperator.io/v1alpha1
            kind: PciAlias
            metadata: {name: nv}
            spec:
              devices: [{vendorId: "10de", productId: "1eb8"}]
            ---
            apiVersion: pcioperator.io/v1alpha1
            kind: PciQuota
            metadata: {name: q}
            spec:
              namespaces: [default]
              limits: [{alias: nv, devices: 1}]
            ---
            apiVersion: pcioperator.io/v1alpha1
            kind: PassthroughClaim
            metadata: {name: two, namespace: default}
            spec:
              requests: [{name: nv, alias: nv, count: 2}]
            """
        );
        const string quota = "PciQuota q: namespace default has 0 of the 1 device of alias nv that it may have, and the claim asks for 2.";
        foreach (
            (string line, string why) in ((string, string)[])
                [
                    (
                        "simulate --alias gold:1",
                        "Namespace default may not ask for alias gold: its namespaceSelector says which namespaces may."
                    ),
                    ("simulate --alias nv:2", quota),
                    ("explain two", quota),
                ]
        )
        {
            Said said = await RunAsync(0, line.Split(' '));
            Assert.Equal((ExitCodes.No, ""), (said.Code, said.Error));
            Assert.Contains(why, said.Out, StringComparison.Ordinal);
        }

        // One would not be too many.
        Assert.DoesNotContain("PciQuota", (await RunAsync(0, "simulate", "--alias", "nv:1")).Out, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_cluster_without_the_resources_is_called_that()
    {
        await StartAsync();
        foreach (string crd in (string[])["pcinodes", "passthroughclaims", "pcialiases", "pciquotas", "pcidevicespecs"])
        {
            (
                await Cluster.Client.SendRawAsync(
                    HttpMethod.Delete,
                    $"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd}.pcioperator.io",
                    default,
                    ct: TestContext.Current.CancellationToken
                )
            ).Dispose();
        }

        foreach (string line in (string[])["nodes", "claims", "devices --node n", "explain c", "capacity", "claim create c --alias a:1"])
        {
            Said said = await UntilAsync(line.Split(' '), ExitCodes.NotInstalled);
            Assert.Contains("PciOperator is not installed there", said.Error, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task A_server_that_is_not_there_is_one_sentence()
    {
        await File.WriteAllTextAsync(
            Kubeconfig,
            """
            apiVersion: v1
            kind: Config
            current-context: c
            clusters: [{name: c, cluster: {server: "https://127.0.0.1:9"}}]
            users: [{name: u, user: {token: t}}]
            contexts: [{name: c, context: {cluster: c, user: u}}]
            """,
            TestContext.Current.CancellationToken
        );
        Said said = await RunAsync(0, "nodes");
        Assert.Equal(ExitCodes.Unreachable, said.Code);
        Assert.StartsWith("error: The API server can't be reached: ", said.Error, StringComparison.Ordinal);
        Assert.Single(said.Error.TrimEnd().Split('\n'));
    }

    [Theory]
    [InlineData(HttpStatusCode.Forbidden, ExitCodes.Forbidden)]
    [InlineData(HttpStatusCode.Unauthorized, ExitCodes.Forbidden)]
    [InlineData(HttpStatusCode.NotFound, ExitCodes.NotFound)]
    [InlineData(HttpStatusCode.UnprocessableEntity, ExitCodes.Failed)]
    public void What_the_server_refuses_has_an_exit_code_of_its_own(HttpStatusCode status, int code)
    {
        CliException known = Errors.Known(new ApiException(status, new V1Status { Message = "pcinodes is forbidden" }))!;
        Assert.Equal(code, known.ExitCode);
    }

    [Fact]
    public async Task Freeing_a_device_deletes_its_claim_only_when_somebody_says_so()
    {
        await StartAsync();
        PassthroughClaim claim = await ClaimWithAsync("held");
        await NodeWithAsync("held", claim);
        string[] free = ["free", "21:00.0", "--delete-claim"];

        Said unasked = await RunAsync(0, free);
        Assert.Equal(ExitCodes.Usage, unasked.Code);
        Said no = await RunAsync(0, free, answer: "n\n");
        Assert.Equal(ExitCodes.No, no.Code);
        Assert.Contains("Nothing was deleted.", no.Out, StringComparison.Ordinal);
        Assert.NotNull(await FindAsync());

        Said yes = await RunAsync(0, free, answer: "y\n");
        Assert.Equal(ExitCodes.Ok, yes.Code);
        Assert.Null(await FindAsync());

        Task<PassthroughClaim?> FindAsync() =>
            Cluster.Client.GetAsync<PassthroughClaim>("evil", "default", TestContext.Current.CancellationToken);
    }

    [Fact]
    public async Task Freeing_a_device_never_deletes_another_claim_of_that_name()
    {
        await StartAsync();
        PassthroughClaim claim = await ClaimWithAsync("held");
        claim.Metadata.Uid = "00000000-0000-0000-0000-000000000000";
        await NodeWithAsync("held", claim);
        Said said = await RunAsync(0, "free", "21:00.0", "--delete-claim", "--yes");
        Assert.Equal(ExitCodes.No, said.Code);
        Assert.NotNull(await Cluster.Client.GetAsync<PassthroughClaim>("evil", "default", TestContext.Current.CancellationToken));
    }

    [Fact]
    public async Task Each_problem_of_a_host_its_devices_a_claim_and_a_pod_is_told_with_a_fix()
    {
        await StartAsync();
        await PostAsync("/api/v1/nodes", """{"apiVersion":"v1","kind":"Node","metadata":{"name":"n1"}}""");
        await PostAsync("/api/v1/nodes", """{"apiVersion":"v1","kind":"Node","metadata":{"name":"n2"}}""");
        await ClaimWithAsync("0/2 nodes can serve it", node: null);
        await PostAsync(
            "/api/v1/namespaces/default/pods",
            """
            {"apiVersion":"v1","kind":"Pod","metadata":{"name":"vm","namespace":"default"},
             "spec":{"containers":[{"name":"c","image":"i"}],"resourceClaims":[{"name":"d","resourceClaimName":"evil"}]},
             "status":{"phase":"Pending","conditions":[{"type":"PodScheduled","status":"False","message":"0/2 nodes are available: cannot allocate all claims"}]}}
            """
        );
        PciNode node = await NodeWithAsync("it is up", status: false);
        node.Status = new PciNodeStatus
        {
            Conditions =
            [
                Condition(Conditions.IommuEnabled, "False", "the kernel has no IOMMU groups"),
                Condition(Conditions.VfioReady, "False", "vfio-pci is not there"),
                Condition(Conditions.KubeletRegistered, "False", "the kubelet has not asked yet"),
                Condition(Conditions.InventoryReady, "True", "1 device is shown"),
            ],
            Devices =
            [
                Device("0000:21:00.0", 3) with
                {
                    State = Core.DeviceState.Unavailable,
                    Reason = "ens1 has an address",
                },
                Device("0000:22:00.0", 4) with
                {
                    State = Core.DeviceState.Unavailable,
                    Reason = "used",
                    WithheldBy = "UsedOnce",
                },
                Device("0000:24:00.0", 5),
                Device("0000:24:00.1", 5) with
                {
                    Rule = null,
                },
                // The schema takes it, and no kernel writes it.
                Device("00000000:25:00.0", 6),
            ],
            Assignments =
            [
                new AssignmentStatus
                {
                    ClaimUid = "u",
                    ClaimNamespace = "default",
                    ClaimName = "old",
                    State = Core.HoldingState.Stuck,
                    Reason = "WriteBlocked",
                },
            ],
        };
        await Cluster.Client.UpdateStatusAsync(node, TestContext.Current.CancellationToken);

        Said said = await RunAsync(0, "diagnose", "-o", "json");
        Assert.Equal(ExitCodes.No, said.Code);
        JsonNode[] found = [.. JsonNode.Parse(said.Out)!["items"]!.AsArray().OfType<JsonNode>()];
        string all = string.Join('\n', found.Select(f => $"{f["where"]} {f["type"]}: {f["fix"]}"));
        foreach (
            string wanted in (string[])
                [
                    "n1 AgentNotReady: ",
                    "n1 IommuEnabled: Turn on VT-d",
                    "n1 VfioReady: Install",
                    "n1 KubeletRegistered: ",
                    "n1 WriteBlocked: ",
                    "n1 0000:21:00.0 NotOffered: End that use",
                    "n1 0000:22:00.0 UsedOnce: When you have looked at it: kubectl annotate pcinode n1 pcioperator.io/free=0000:22:00.0",
                    "n1 0000:24:00.0 NotOffered: Name the whole IOMMU group",
                    "n2 NoPciNode: ",
                    "claim default/evil Waiting: kubectl pci explain evil",
                    "pod default/vm DoesNotStart: The claim is not offered yet",
                ]
        )
        {
            Assert.Contains(wanted, all, StringComparison.Ordinal);
        }

        Assert.Contains("PciNode n1 has devices that can't be meant, and are left out: 1", said.Error, StringComparison.Ordinal);
        Assert.Equal(11, found.Length);

        Said why = await RunAsync(0, "explain", "evil");
        Assert.Equal(ExitCodes.No, why.Code);
        Assert.Contains("There is no usable PciAlias a; there are: none.", why.Out, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_support_bundle_has_the_objects_and_none_of_the_secrets()
    {
        await StartAsync();
        await ClaimWithAsync("held");
        await NodeWithAsync("held");
        string pod = """
            {"apiVersion":"v1","kind":"Pod","metadata":{"name":"agent-1","namespace":"pcioperator-system",
             "annotations":{"kubectl.kubernetes.io/last-applied-configuration":"hunter2"}},
             "spec":{"containers":[{"name":"agent","image":"i","args":["--api-token=hunter2","--password","hunter2","--verbose"],
             "env":[{"name":"ANY","value":"hunter2"}]}]}}
            """;
        (
            await Cluster.Client.SendRawAsync(
                HttpMethod.Post,
                "/api/v1/namespaces/pcioperator-system/pods",
                Encoding.UTF8.GetBytes(pod),
                ct: TestContext.Current.CancellationToken
            )
        ).Dispose();
        string file = Path.Combine(_folder, "bundle.tar.gz");
        Said said = await RunAsync(0, "collect", "--file", file);
        Assert.Equal(ExitCodes.Ok, said.Code);
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(file));

        IReadOnlyDictionary<string, string> entries = await Bundle.ReadAsync(file);

        Assert.Contains("\"evil\"", entries["pci-collect/passthroughclaims.json"], StringComparison.Ordinal);
        Assert.Contains("0000:21:00.0", entries["pci-collect/pcinodes.json"], StringComparison.Ordinal);
        Assert.Contains("agent-1", entries["pci-collect/pods-of-agents.json"], StringComparison.Ordinal);
        Assert.Contains("--verbose", entries["pci-collect/pods-of-agents.json"], StringComparison.Ordinal);
        Assert.All(entries, e => Assert.DoesNotContain("hunter2", e.Value, StringComparison.Ordinal));
        Assert.All(entries, e => Assert.DoesNotContain("managedFields", e.Value, StringComparison.Ordinal));

        Said again = await RunAsync(0, "collect", "--file", file);
        Assert.Equal(ExitCodes.Failed, again.Code);
    }

    [Fact]
    public void What_looks_like_a_secret_is_left_out_wherever_it_is()
    {
        JsonNode node = JsonNode.Parse(
            """{"a":[{"env":[{"name":"X","value":"s"},{"name":"Y","valueFrom":{"secretKeyRef":{"name":"n","key":"k"}}}]}],"clientSecret":"s","secretName":"n","command":["x","--token","s","--keep","v"]}"""
        )!;
        SupportBundle.Clean(node, insideEnvironment: false);
        string text = node.ToJsonString();
        Assert.DoesNotContain("\"s\"", text, StringComparison.Ordinal);
        Assert.Contains("\"secretName\":\"n\"", text, StringComparison.Ordinal);
        Assert.Contains("\"v\"", text, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(20, new[] { 10, 10 }, new[] { 8, 10 })]
    [InlineData(12, new[] { 10, 10 }, new[] { 10, 0 })]
    [InlineData(100, new[] { 10, 10 }, new[] { 10, 10 })]
    public void Columns_are_cut_before_they_are_left_out(int width, int[] natural, int[] wanted) =>
        Assert.Equal(wanted, Printer.Fit(natural, [(6, 0), (null, 1)], [3, 3], width));

    private SandboxCluster Cluster => _cluster!;

    private async Task StartAsync()
    {
        _cluster = await SandboxCluster.StartAsync(new SandboxClusterOptions { Log = NullLogger.Instance });
        await File.WriteAllTextAsync(Kubeconfig, _cluster.KubeconfigText);
    }

    private static string Line(string text, string with) =>
        text.Split('\n').FirstOrDefault(l => l.Contains(with, StringComparison.Ordinal)) ?? $"no line has {with}:\n{text}";

    private async Task<Said> UntilAsync(string[] args, int code)
    {
        for (int i = 0; i < 100; i++)
        {
            Said said = await RunAsync(0, args);
            if (said.Code == code)
                return said;
            await Task.Delay(50);
        }

        return await RunAsync(0, args);
    }

    private Task<Said> RunAsync(int width, params string[] args) => RunAsync(width, args, false, null);

    private async Task<Said> RunAsync(int width, string[] args, bool colours = false, string? answer = null)
    {
        using var output = new StringWriter();
        using var error = new StringWriter();
        using var io = new CliIo
        {
            Out = output,
            Error = error,
            In = new StringReader(answer ?? ""),
            IsInteractive = answer is not null,
            IsTerminal = width > 0,
            Width = Math.Max(width, 20),
            Environment = name =>
                name switch
                {
                    "KUBECONFIG" => Kubeconfig,
                    "NO_COLOR" => colours ? null : "1",
                    "TERM" => "xterm",
                    _ => null,
                },
        };
        int code = await CliProgram.RunAsync(args, io);
        return new Said(code, output.ToString(), error.ToString());
    }

    private async Task PostAsync(string path, string json) =>
        (
            await Cluster.Client.SendRawAsync(
                HttpMethod.Post,
                path,
                Encoding.UTF8.GetBytes(json),
                ct: TestContext.Current.CancellationToken
            )
        ).Dispose();

    private static V1Condition Condition(string type, string status, string message) =>
        new()
        {
            Type = type,
            Status = status,
            Reason = "Because",
            Message = message,
            LastTransitionTime = DateTime.UtcNow,
        };

    private static PciNodeDevice Device(string address, int group) =>
        new()
        {
            Address = address,
            VendorId = "8086",
            ProductId = "10c9",
            Name = "NIC",
            IommuGroup = group,
            Rule = "spec",
            State = Core.DeviceState.Available,
        };

    private async Task<PassthroughClaim> ClaimWithAsync(string message, string? node = "n1")
    {
        PassthroughClaim claim = await Cluster.Client.CreateAsync(
            new PassthroughClaim
            {
                Metadata = new V1ObjectMeta { Name = "evil", NamespaceProperty = "default" },
                Spec = new PassthroughClaimSpec { Requests = [new ClaimRequest { Name = "r", Alias = "a" }] },
            }
        );
        claim.Status = new PassthroughClaimStatus
        {
            Phase = ClaimPhase.Pending,
            NodeName = node,
            Conditions =
            [
                new V1Condition
                {
                    Type = Conditions.Scheduled,
                    Status = "False",
                    Reason = "NoNodeFits",
                    Message = message,
                    LastTransitionTime = DateTime.UtcNow,
                },
            ],
        };
        return await Cluster.Client.UpdateStatusAsync(claim);
    }

    private async Task<PciNode> NodeWithAsync(string text, PassthroughClaim? owner = null, bool status = true)
    {
        var device = new PciNodeDevice
        {
            Address = "0000:21:00.0",
            VendorId = "8086",
            ProductId = "10c9",
            ClassCode = "020000",
            Name = text,
            Driver = "igb",
            NumaNode = 0,
            IommuGroup = 3,
            Rule = "spec",
            State = Core.DeviceState.Unavailable,
            Reason = text,
            Problems = [new PciDeviceProblem { Type = "AerErrors", Message = text }],
        };
        PciNode node = await Cluster.Client.CreateAsync(
            new PciNode
            {
                Metadata = new V1ObjectMeta { Name = "n1" },
                Spec = new PciNodeSpec
                {
                    Assignments = owner is null
                        ? null
                        :
                        [
                            new PciAssignment
                            {
                                ClaimNamespace = owner.Metadata.NamespaceProperty,
                                ClaimName = owner.Metadata.Name,
                                ClaimUid = owner.Metadata.Uid,
                                Devices =
                                [
                                    new AssignedDevice
                                    {
                                        Address = device.Address,
                                        VendorId = device.VendorId,
                                        ProductId = device.ProductId,
                                        Request = "r",
                                    },
                                ],
                            },
                        ],
                },
            }
        );
        if (!status)
            return node;
        node.Status = new PciNodeStatus
        {
            Devices = [device],
            Unmatched =
            [
                device with
                {
                    Address = "0000:22:00.0",
                    Rule = null,
                    State = null,
                },
                device with
                {
                    Address = "0000:23:00.0",
                    IommuGroup = 4,
                    Rule = null,
                    State = null,
                    Reason = null,
                },
            ],
        };
        return await Cluster.Client.UpdateStatusAsync(node);
    }
}
