using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using k8s.Models;
using Microsoft.Extensions.Logging.Abstractions;
using PciOperator.Api;
using PciOperator.Controller;
using PciOperator.Kubernetes;
using PciOperator.Testing;
using static PciOperator.Tests.Answers;

namespace PciOperator.Tests;

/// <summary>KubeVirt's list of permitted host devices, and its VMs' hidden hypervisor, on a real API server with KubeVirt's kinds.</summary>
[Turns(8)]
public sealed class KubeVirtTests : IAsyncLifetime
{
    private const string KubeVirt = "/apis/kubevirt.io/v1/namespaces/kubevirt/kubevirts/kubevirt";
    private const string Merge = "application/merge-patch+json";
    private static readonly JsonArray Foreign = JsonNode
        .Parse(
            """
            [{"pciVendorSelector":"10DE:1EB8","resourceName":"nvidia.com/T4"},
             {"pciVendorSelector":"8086:0A54","resourceName":"pcioperator.io/by-hand"},
             {"pciVendorSelector":"8086:1572","resourceName":"intel.com/x710","externalResourceProvider":true}]
            """
        )!
        .AsArray();
    private TestApiServer _server = null!;
    private EntityClient _admin = null!;
    private List<PassthroughClaim> _claims = [];

    private EntityClient Controller => new(ServiceAccounts.Access(_server, "pcioperator-controller"), null, userAgent: "pcioperator-tests");

    public async ValueTask InitializeAsync()
    {
        _server = await TestApiServer.RealAsync();
        _admin = _server.Client();
    }

    public async ValueTask DisposeAsync()
    {
        if (_server is null)
            return;
        _admin.Dispose();
        await _server.DisposeAsync();
    }

    [TurnFact]
    public void Each_kind_of_device_of_a_claim_that_the_device_plugin_delivers_is_wanted_once()
    {
        Assert.Equal(
            [
                new PermittedHostDevice("10DE:1E04", "pcioperator.io/team.render"),
                new PermittedHostDevice("8086:10CA", "pcioperator.io/team.router"),
            ],
            PermittedHostDevices.Wanted([
                Claim("router", ("8086", "10ca", null), ("8086", "10ca", null)),
                Claim("render", ("10de", "1e04", null), ("10de", "10f7", true)),
                new PassthroughClaim
                {
                    Metadata = new V1ObjectMeta { Name = "by-dra" },
                    Status = new PassthroughClaimStatus(),
                },
            ])
        );
    }

    [TurnFact]
    public async Task Nothing_happens_without_KubeVirt_without_the_right_and_without_a_list()
    {
        _claims = [Claim("render", ("10de", "1e04", null))];
        await Sync().SyncAsync(default);

        await InstallAsync("""{"configuration":{"developerConfiguration":{"featureGates":["HostDevices"]}}}""");
        string before = await VersionAsync();
        await Sync().SyncAsync(default);
        await new PermittedHostDevices(Controller, () => _claims, NullLogger.Instance).SyncAsync(default);
        Assert.Equal(before, await VersionAsync());
        Assert.Null((await ReadAsync())["spec"]!["configuration"]!["permittedHostDevices"]);
    }

    [TurnFact]
    public async Task Entries_are_kept_in_step_and_nobody_elses_are_touched()
    {
        var spec = new JsonObject
        {
            ["configuration"] = new JsonObject { ["permittedHostDevices"] = new JsonObject { ["pciHostDevices"] = Foreign.DeepClone() } },
        };
        await InstallAsync(spec.ToJsonString());
        _claims = [Claim("render", ("10de", "1e04", null))];
        await Sync().SyncAsync(default);
        JsonArray with = [.. Foreign.Select(f => f!.DeepClone()), Entry("10DE:1E04", "pcioperator.io/team.render")];
        AssertSame(with, await ListAsync());

        string version = await VersionAsync();
        await Sync().SyncAsync(default);
        Assert.Equal(version, await VersionAsync());

        _claims = [];
        await Sync().SyncAsync(default);
        AssertSame(Foreign, await ListAsync());
    }

    [TurnFact]
    public async Task A_list_that_is_empty_forbids_and_is_filled()
    {
        await InstallAsync("""{"configuration":{"permittedHostDevices":{}}}""");
        _claims = [Claim("render", ("10de", "1e04", null))];
        await Sync().SyncAsync(default);
        AssertSame(new JsonArray(Entry("10DE:1E04", "pcioperator.io/team.render")), await ListAsync());
    }

    [TurnFact]
    public async Task What_somebody_wrote_meanwhile_is_not_lost()
    {
        await InstallAsync("""{"configuration":{"permittedHostDevices":{}}}""");
        _claims = [Claim("render", ("10de", "1e04", null))];
        bool once = false;
        using EntityClient racing = _server.Client(wrap: inner => new Before(PatchOnceAsync) { InnerHandler = inner });
        await new PermittedHostDevices(racing, () => _claims, NullLogger.Instance).SyncAsync(default);
        JsonArray both = [.. Foreign.Select(f => f!.DeepClone()), Entry("10DE:1E04", "pcioperator.io/team.render")];
        AssertSame(both, await ListAsync());

        async Task PatchOnceAsync()
        {
            if (once)
                return;
            once = true;
            await PatchAsync(
                $$$"""{"spec":{"configuration":{"permittedHostDevices":{"pciHostDevices":{{{Foreign.ToJsonString()}}} } } } }"""
            );
        }
    }

    [TurnFact]
    public async Task Of_a_KubeVirt_the_controller_writes_its_own_entries_alone()
    {
        await Kubectl.RunAsync(_server.KubeconfigText, "apply", "-k", Path.Combine(Kubectl.Repository, "config"), "--validate=strict");
        await Kubectl.RunAsync(
            _server.KubeconfigText,
            "apply",
            "--validate=strict",
            "-f",
            Path.Combine(Kubectl.Repository, "config", "kubevirt", "permitted-host-devices.yaml")
        );
        var spec = new JsonObject
        {
            ["configuration"] = new JsonObject
            {
                ["permittedHostDevices"] = new JsonObject { ["pciHostDevices"] = Foreign.DeepClone() },
                ["developerConfiguration"] = new JsonObject { ["featureGates"] = new JsonArray("HostDevices") },
            },
        };
        await InstallAsync(spec.ToJsonString());
        const string sentence = "of a KubeVirt the controller writes its own entries";
        await RefusedAsync(
            Controller,
            HttpMethod.Patch,
            KubeVirt + "?dryRun=All",
            Merge,
            """{"spec":{"configuration":{"developerConfiguration":{"featureGates":["Root"]}}}}""",
            sentence,
            untilItIs: true
        );
        foreach (
            string change in new[]
            {
                """{"spec":{"configuration":{"permittedHostDevices":{"pciHostDevices":[]}}}}""",
                """{"spec":{"configuration":{"permittedHostDevices":null}}}""",
                """{"spec":{"configuration":{"permittedHostDevices":{"mediatedDevices":[{"mdevNameSelector":"a"}]}}}}""",
                """{"spec":{"configuration":{"developerConfiguration":null}}}""",
                """{"spec":{"imageTag":"other"}}""",
                """{"metadata":{"labels":{"a":"b"}}}""",
            }
        )
        {
            await RefusedAsync(Controller, HttpMethod.Patch, KubeVirt, Merge, change, sentence);
        }

        await RefusedAsync(Controller, HttpMethod.Delete, KubeVirt, null, null, "cannot delete");
        _claims = [Claim("render", ("10de", "1e04", null))];
        await new PermittedHostDevices(Controller, () => _claims, NullLogger.Instance).SyncAsync(default);
        Assert.Contains("pcioperator.io/team.render", (await ListAsync())!.ToJsonString(), StringComparison.Ordinal);
        _claims = [];
        await new PermittedHostDevices(Controller, () => _claims, NullLogger.Instance).SyncAsync(default);
        AssertSame(Foreign, await ListAsync());
    }

    [TurnFact]
    public async Task A_VM_that_is_labelled_so_hides_its_hypervisor()
    {
        await InstallAsync("{}");
        await Kubectl.RunAsync(
            _server.KubeconfigText,
            "apply",
            "--validate=strict",
            "-f",
            Path.Combine(Kubectl.Repository, "config", "kubevirt", "hide-hypervisor.yaml")
        );
        await UntilItHoldsAsync();
        foreach (
            (string domain, string features) in new[]
            {
                ("{}", """{"kvm":{"hidden":true}}"""),
                ("""{"features":{"acpi":{}}}""", """{"acpi":{},"kvm":{"hidden":true}}"""),
                ("""{"features":{"kvm":{}}}""", """{"kvm":{"hidden":true}}"""),
                ("""{"features":{"kvm":{"hidden":false}}}""", """{"kvm":{"hidden":false}}"""),
            }
        )
        {
            AssertSame(JsonNode.Parse(features), await MakeVmAsync(domain, "true"));
            AssertSame(JsonNode.Parse(domain)!["features"], await MakeVmAsync(domain, "false"));
        }
    }

    /// <summary>A policy holds some moments after it was made, and after the server has taken up the schema of a kind that is new.</summary>
    private async Task UntilItHoldsAsync()
    {
        for (int attempt = 0; ; attempt++)
        {
            try
            {
                if ((await MakeVmAsync("{}", "true"))?["kvm"] is not null)
                    return;
            }
            catch (ApiException notYet) when (notYet.Message.Contains("There can be a delay", StringComparison.Ordinal) && attempt < 600)
            {
                // As the server says.
            }

            Assert.True(attempt < 600, "the policy does not come to hold");
            await Task.Delay(100);
        }
    }

    private static void AssertSame(JsonNode? expected, JsonNode? actual) =>
        Assert.True(JsonNode.DeepEquals(expected, actual), $"expected {expected?.ToJsonString()}, not {actual?.ToJsonString()}");

    private static JsonNode Entry(string selector, string resource) =>
        new JsonObject
        {
            ["pciVendorSelector"] = selector,
            ["resourceName"] = resource,
            ["externalResourceProvider"] = true,
        };

    private static PassthroughClaim Claim(string name, params (string Vendor, string Product, bool? Companion)[] devices) =>
        new()
        {
            Metadata = new V1ObjectMeta { Name = name, NamespaceProperty = "team" },
            Status = new PassthroughClaimStatus
            {
                ResourceName = $"pcioperator.io/team.{name}",
                Devices =
                [
                    .. devices.Select(d => new ClaimDevice
                    {
                        VendorId = d.Vendor,
                        ProductId = d.Product,
                        Companion = d.Companion,
                    }),
                ],
            },
        };

    private PermittedHostDevices Sync() => new(_admin, () => _claims, NullLogger.Instance);

    /// <summary>KubeVirt's kinds, and one KubeVirt.</summary>
    private async Task InstallAsync(string spec)
    {
        await KubeVirtKinds.InstallAsync(_admin, "kubevirts", "virtualmachineinstances");
        foreach (
            (string path, string body) in new[]
            {
                ("/api/v1/namespaces", """{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"kubevirt"}}"""),
                (
                    "/apis/kubevirt.io/v1/namespaces/kubevirt/kubevirts",
                    $$$"""{"apiVersion":"kubevirt.io/v1","kind":"KubeVirt","metadata":{"name":"kubevirt"},"spec":{{{spec}}} }"""
                ),
            }
        )
        {
            (await _admin.SendRawAsync(HttpMethod.Post, path, Encoding.UTF8.GetBytes(body))).Dispose();
        }
    }

    /// <summary>The features of a VM that is made and not kept.</summary>
    private async Task<JsonNode?> MakeVmAsync(string domain, string label)
    {
        using JsonDocument made = await _admin.SendRawAsync(
            HttpMethod.Post,
            "/apis/kubevirt.io/v1/namespaces/kubevirt/virtualmachineinstances?dryRun=All",
            Encoding.UTF8.GetBytes(
                $$$"""{"apiVersion":"kubevirt.io/v1","kind":"VirtualMachineInstance","metadata":{"name":"vm","labels":{"pcioperator.io/hide-hypervisor":"{{{label}}}"} },"spec":{"domain":{{{domain}}} } }"""
            )
        );
        return JsonNode.Parse(made.RootElement.GetRawText())!["spec"]!["domain"]!["features"];
    }

    private async Task PatchAsync(string body) =>
        (await _admin.SendRawAsync(HttpMethod.Patch, KubeVirt, Encoding.UTF8.GetBytes(body), Merge)).Dispose();

    private async Task<JsonNode> ReadAsync()
    {
        using JsonDocument answer = await _admin.GetRawAsync(KubeVirt);
        return JsonNode.Parse(answer.RootElement.GetRawText())!;
    }

    private async Task<string> VersionAsync() => (await ReadAsync())["metadata"]!["resourceVersion"]!.ToString();

    private async Task<JsonNode?> ListAsync() => (await ReadAsync())["spec"]!["configuration"]!["permittedHostDevices"]!["pciHostDevices"];

    /// <summary>Something happens before each patch.</summary>
    private sealed class Before(Func<Task> happens) : DelegatingHandler
    {
        protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            if (request.Method == HttpMethod.Patch)
                await happens();
            return await base.SendAsync(request, cancellationToken);
        }
    }
}
