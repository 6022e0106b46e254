using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using PciOperator.Api;
using PciOperator.Kubernetes;
using PciOperator.Sandbox.Cluster;
using PciOperator.Testing;
using PciOperator.Tests.Docs;

namespace PciOperator.Tests;

/// <summary>Every YAML of docs/kubevirt.md, of the pages on kinds of cards (Docs/CardPageTests) and config/samples/kubevirt: a real API server with our policies takes it, and VMs name devices that their claims have.</summary>
[Turns(3)]
public sealed partial class KubeVirtSampleTests
{
    private static readonly string[] OwnKinds = ["PassthroughClaim", "ResourceClaimTemplate", "Pod"];

    [TurnFact]
    public async Task A_real_API_server_takes_every_sample_from_a_tenant()
    {
        await using TestApiServer server = await TestApiServer.RealAsync();
        using EntityClient admin = server.Client();
        await Kubectl.RunAsync(server.KubeconfigText, "apply", "-k", Path.Combine(Kubectl.Repository, "config"), "--validate=strict");
        await Manifests.ApplyAsync(
            admin,
            """
            apiVersion: rbac.authorization.k8s.io/v1
            kind: ClusterRole
            metadata: {name: tenant}
            rules:
              - {apiGroups: [pcioperator.io], resources: [passthroughclaims], verbs: ["*"]}
              - {apiGroups: [resource.k8s.io], resources: [resourceclaimtemplates], verbs: ["*"]}
              - {apiGroups: [""], resources: [pods], verbs: ["*"]}
            ---
            apiVersion: rbac.authorization.k8s.io/v1
            kind: ClusterRoleBinding
            metadata: {name: tenant}
            roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: tenant}
            subjects: [{kind: ServiceAccount, namespace: default, name: tenant}]
            """
        );
        await Manifests.ApplyAsync(admin, "{apiVersion: v1, kind: ServiceAccount, metadata: {name: tenant, namespace: default}}");
        using var tenant = new EntityClient(ServiceAccounts.Access(server, "tenant", ns: "default"), null, userAgent: "pcioperator-tests");
        List<JsonObject> samples = [.. Documents().Where(d => OwnKinds.Contains(Kind(d)))];
        Assert.Equal(OwnKinds.Order(StringComparer.Ordinal), samples.Select(Kind).Distinct().Order(StringComparer.Ordinal));
        foreach (JsonObject sample in samples)
            await Manifests.ApplyAsync(tenant, sample.ToJsonString());
    }

    [Fact]
    public void Every_VM_and_pod_asks_for_devices_that_its_claim_has()
    {
        IReadOnlyList<JsonObject> documents = [.. Documents(), .. Manifests.Read(ReadFile("config", "samples", "claims.yaml"))];
        var claims = documents.Where(d => Kind(d) == "PassthroughClaim").DistinctBy(Name).ToDictionary(Name, d => Devices(d["spec"]!));
        var templates = documents
            .Where(d => Kind(d) == "ResourceClaimTemplate")
            .ToDictionary(Name, d => Devices(d["spec"]!["spec"]!["devices"]!["config"]![0]!["opaque"]!["parameters"]!));
        int seen = 0;
        foreach (JsonObject vm in documents.Where(d => Kind(d).StartsWith("VirtualMachine", StringComparison.Ordinal)))
        {
            JsonNode spec = vm["spec"]!["template"]!["spec"]!;
            var uses = (spec["resourceClaims"]?.AsArray() ?? []).ToDictionary(
                u => u!["name"]!.ToString(),
                u => u!["resourceClaimName"] is { } claim ? claims[claim.ToString()] : templates[u["resourceClaimTemplateName"]!.ToString()]
            );
            List<JsonNode> entries = [.. Entries(spec, "gpus"), .. Entries(spec, "hostDevices")];
            Assert.NotEmpty(entries);
            Assert.Equal(entries.Count, entries.Select(e => e["name"]!.ToString()).Distinct().Count());
            foreach (JsonNode entry in entries)
            {
                seen++;
                if (entry["deviceName"] is { } resource)
                {
                    Assert.Null(entry["claimName"]);
                    string claim = resource.ToString().Split('.')[^1];
                    Assert.Equal($"pcioperator.io/{vm["metadata"]!["namespace"]}.{claim}", resource.ToString());
                    Assert.Equal(claims[claim].Count, entries.Count(e => e["deviceName"]?.ToString() == resource.ToString()));
                    continue;
                }

                string request = entry["requestName"]!.ToString();
                Assert.Contains(Companion().Replace(request, ""), uses[entry["claimName"]!.ToString()]);
            }

            // KubeVirt takes each request of a claim once.
            Assert.Distinct(entries.Where(e => e["claimName"] is not null).Select(e => $"{e["claimName"]}/{e["requestName"]}"));
        }

        Assert.True(seen >= 9);
        foreach (JsonObject pod in documents.Where(d => Kind(d) == "Pod"))
        {
            JsonNode use = pod["spec"]!["resourceClaims"]!.AsArray().Single()!;
            Assert.True(claims.ContainsKey(use["resourceClaimName"]!.ToString()));
            Assert.Equal(use["name"]!.ToString(), pod["spec"]!["containers"]![0]!["resources"]!["claims"]![0]!["name"]!.ToString());
        }
    }

    [Fact]
    public void What_the_guide_says_of_a_templates_selector_is_what_the_policy_asks_for()
    {
        JsonObject template = Documents().First(d => Kind(d) == "ResourceClaimTemplate");
        JsonNode request = template["spec"]!["spec"]!["devices"]!["requests"]![0]!;
        string form = ReadFile("docs", "kubevirt.md")
            .Split('\n')
            .Single(l => l.TrimStart().StartsWith("device.attributes", StringComparison.Ordinal))
            .Trim();
        Assert.Equal(
            form.Replace("NAMESPACE", "default", StringComparison.Ordinal)
                .Replace("TEMPLATE", Name(template), StringComparison.Ordinal)
                .Replace("REQUEST", request["name"]!.ToString(), StringComparison.Ordinal),
            request["exactly"]!["selectors"]![0]!["cel"]!["expression"]!.ToString()
        );
    }

    private static IReadOnlyList<JsonObject> Documents()
    {
        IEnumerable<string> guide = ((string[])["docs/kubevirt.md", .. CardPageTests.Pages]).SelectMany(p =>
            MarkdownPage.Read(p).Fenced("yaml")
        );
        IEnumerable<string> files = Directory
            .GetFiles(Path.Combine(Kubectl.Repository, "config", "samples", "kubevirt"), "*.yaml")
            .Order(StringComparer.Ordinal)
            .Select(File.ReadAllText);
        return [.. guide.Concat(files).SelectMany(text => Manifests.Read(text))];
    }

    /// <summary>The names of a claim's devices, without companions.</summary>
    private static HashSet<string> Devices(JsonNode spec) =>
        [
            .. spec["requests"]!
                .AsArray()
                .SelectMany(r =>
                {
                    int count = (int)(r!["count"]?.GetValue<long>() ?? 1);
                    return Enumerable.Range(0, count).Select(i => DraNames.Device(r["name"]!.ToString(), i, count));
                }),
        ];

    private static IEnumerable<JsonNode> Entries(JsonNode spec, string list) =>
        (spec["domain"]!["devices"]![list]?.AsArray() ?? []).Select(e => e!);

    private static string Kind(JsonObject document) => document["kind"]!.ToString();

    private static string Name(JsonObject document) => document["metadata"]!["name"]!.ToString();

    private static string ReadFile(params string[] path) => File.ReadAllText(Path.Combine([Kubectl.Repository, .. path]));

    [GeneratedRegex("-companion-[0-9]+$")]
    private static partial Regex Companion();
}
