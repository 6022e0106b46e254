using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using PciOperator.Sandbox.Cluster;
using PciOperator.Testing;

namespace PciOperator.Tests.Docs;

/// <summary>The worked pages on kinds of cards, and that every page is found. KubeVirtSampleTests looks at their VMs, too.</summary>
[Turns(3)]
public sealed partial class CardPageTests
{
    internal static readonly string[] Pages = ["docs/fpgas.md", "docs/gpus.md", "docs/nics.md", "docs/nvme.md"];

    private static readonly string[] Kinds = ["PassthroughClaim", "PciAlias", "PciDeviceSpec", "VirtualMachine"];

    [TurnFact]
    public async Task A_real_API_server_takes_what_they_say_with_strict_validation()
    {
        await using LabCluster lab = await LabCluster.StartAsync(real: true);
        foreach (string page in Pages)
        {
            List<JsonObject> objects = Objects(page);
            Assert.Equal(Kinds, objects.Select(Kind).Distinct().Order(StringComparer.Ordinal));
            string items = string.Join(',', objects.Where(o => Kind(o) != "VirtualMachine").Select(o => o.ToJsonString()));
            (int code, string said) = await Kubectl.TryApplyAsync(
                lab.KubeconfigText,
                $$"""{"apiVersion":"v1","kind":"List","items":[{{items}}]}"""
            );
            Assert.True(code == 0, $"{page}: {said}");
        }

        // The controller takes them, too.
        foreach (Api.PciDeviceSpec spec in (await lab.Client.ListAsync<Api.PciDeviceSpec>()).Items)
            Assert.True((await AcceptedAsync<Api.PciDeviceSpec>(spec.Metadata.Name, s => s.Status?.Conditions)).Count > 0);
        foreach (Api.PciAlias alias in (await lab.Client.ListAsync<Api.PciAlias>()).Items)
            Assert.True((await AcceptedAsync<Api.PciAlias>(alias.Metadata.Name, a => a.Status?.Conditions)).Count > 0);

        async Task<IReadOnlyList<k8s.Models.V1Condition>> AcceptedAsync<T>(
            string name,
            Func<T, IReadOnlyList<k8s.Models.V1Condition>?> conditions
        )
            where T : class, k8s.IKubernetesObject<k8s.Models.V1ObjectMeta> =>
            conditions(
                await lab.UntilAsync(
                    $"{name} to be accepted",
                    () => lab.Client.GetAsync<T>(name),
                    o => Api.Conditions.IsTrue(conditions(o), Api.Conditions.Accepted)
                )
            )!;
    }

    [Fact]
    public void Claims_ask_for_aliases_of_the_page_and_these_for_devices_that_its_specs_offer()
    {
        foreach (string page in Pages)
        {
            List<JsonObject> objects = Objects(page);
            var specs = objects.Where(o => Kind(o) == "PciDeviceSpec").ToList();
            var aliases = objects.Where(o => Kind(o) == "PciAlias").ToDictionary(o => o["metadata"]!["name"]!.ToString());
            var asked = objects
                .Where(o => Kind(o) == "PassthroughClaim")
                .SelectMany(c => c["spec"]!["requests"]!.AsArray())
                .Select(r => r!["alias"]!.ToString())
                .ToHashSet();
            Assert.NotEmpty(asked);
            Assert.Subset(aliases.Keys.ToHashSet(), asked);
            foreach (JsonNode device in aliases.Values.SelectMany(a => a["spec"]!["devices"]!.AsArray()).Select(d => d!))
            {
                // A spec with an address offers what is there.
                Assert.Contains(
                    specs,
                    s =>
                        s["spec"]!["devices"]!
                            .AsArray()
                            .Any(d => d!["address"] is not null || (Is(d, device, "vendorId") && Is(d, device, "productId")))
                        && Is(s["spec"]!, device, "physicalNetwork")
                        && (device["tags"]?.AsObject() ?? []).All(t => s["spec"]!["tags"]?[t.Key]?.ToString() == t.Value!.ToString())
                );
            }
        }

        static bool Is(JsonNode a, JsonNode b, string field) => a[field]?.ToString() == b[field]?.ToString();
    }

    [Fact]
    public void Every_page_is_in_the_index_and_every_link_leads_to_a_page_and_its_heading()
    {
        string docs = Path.Combine(Kubectl.Repository, "docs");
        string[] pages =
        [
            .. Directory.GetFiles(docs, "*.md", SearchOption.AllDirectories).Select(f => Path.GetRelativePath(docs, f)).Order(),
        ];
        string index = File.ReadAllText(Path.Combine(docs, "README.md"));
        Assert.All(pages.Where(p => p != "README.md"), p => Assert.Contains($"]({p})", index, StringComparison.Ordinal));
        foreach (string file in pages.Select(p => Path.Combine(docs, p)).Append(Path.Combine(Kubectl.Repository, "README.md")))
        {
            foreach (Match link in Link().Matches(File.ReadAllText(file)))
            {
                string path = link.Groups["path"].Value,
                    heading = link.Groups["heading"].Value;
                string target = path.Length == 0 ? file : Path.GetFullPath(Path.Combine(Path.GetDirectoryName(file)!, path));
                Assert.True(Path.Exists(target), $"{file} leads to {path}");
                if (heading.Length > 0)
                    Assert.True(Headings(target).Contains(heading), $"{file} leads to {path}#{heading}");
            }
        }
    }

    /// <summary>A page's headings as links have them.</summary>
    private static HashSet<string> Headings(string file) =>
        [
            .. File.ReadLines(file)
                .Where(l => l.StartsWith('#'))
                .Select(l => NotInLinks().Replace(l.TrimStart('#').Trim().ToLowerInvariant(), "").Replace(' ', '-')),
        ];

    private static List<JsonObject> Objects(string page) => [.. MarkdownPage.Read(page).Fenced("yaml").SelectMany(Manifests.Read)];

    private static string Kind(JsonObject o) => o["kind"]!.ToString();

    [GeneratedRegex(@"\]\((?!https?:)(?<path>[^)#\s]*)(#(?<heading>[^)\s]*))?\)")]
    private static partial Regex Link();

    [GeneratedRegex("[^a-z0-9 _-]")]
    private static partial Regex NotInLinks();
}
