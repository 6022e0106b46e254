using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using k8s.Models;
using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Kubernetes;
using PciOperator.Sandbox.Cluster;
using PciOperator.Testing;

namespace PciOperator.Tests.Docs;

/// <summary>docs/gitops.md: what Argo CD and Flux see of our objects, its commands, and the manifests of config/gitops. PCI_GOLDEN=1 writes its table.</summary>
[Turns(6)]
public sealed class GitOpsTests
{
    private const string File = "docs/gitops.md";
    private static readonly string PagePath = Path.Combine(Kubectl.Repository, File);

    [TurnFact]
    public async Task The_table_is_what_kstatus_Argo_CD_and_Flux_say_of_real_objects()
    {
        ArgoHealth.Interpreter();
        await using DeliveryLab lab = await DeliveryLab.StartAsync(4);
        FluxHealth flux = await FluxHealth.OnAsync(lab.Client);
        var table = new StringBuilder(
            "| object | kstatus | Argo CD, by `health.yaml` | Flux, by `healthCheckExprs` |\n|---|---|---|---|\n"
        );
        foreach ((string state, JsonNode o) in await StatesAsync(lab))
        {
            string kind = o["kind"]!.ToString();
            string argo = "-",
                said = "-";
            if (ArgoHealth.Scripts.ContainsKey(kind))
            {
                (argo, string message) = await ArgoHealth.OfAsync(o);
                Assert.NotEqual("", message);
                said = await flux.OfAsync(o);
                // What waits is nobody's failure, and what failed is no success for any of them.
                string kstatus = Kstatus.Of(o);
                Assert.Equal(kstatus == "Failed", argo == "Degraded");
                Assert.Equal(kstatus == "Failed", said == "Failed");
            }

            table.Append(CultureInfo.InvariantCulture, $"| {state} | {Kstatus.Of(o)} | {argo} | {said} |\n");
        }

        string text = await System.IO.File.ReadAllTextAsync(PagePath);
        const string begin = "<!-- health -->\n",
            end = "<!-- end of health -->";
        int from = text.IndexOf(begin, StringComparison.Ordinal) + begin.Length,
            to = text.IndexOf(end, StringComparison.Ordinal);
        Assert.True(from >= begin.Length && to >= from);
        if (Environment.GetEnvironmentVariable("PCI_GOLDEN") == "1")
            await System.IO.File.WriteAllTextAsync(PagePath, text[..from] + table + text[to..]);
        else
            Assert.Equal(table.ToString(), text[from..to]);
    }

    [TurnFact]
    public async Task Commands_of_the_page_run_and_what_is_installed_stays_as_the_files_have_it()
    {
        Reader? reader = null;
        LabCluster? lab = null;
        try
        {
            lab = await LabCluster.StartAsync(
                real: true,
                installed: true,
                install: async server =>
                {
                    reader = await Reader.StartAsync(server.KubeconfigText);
                    // As both tools do it.
                    await reader.RunAsync($"kubectl apply --server-side --field-manager={Tool} -k config");
                }
            );
            await lab.WithNodesAsync(1);
            await reader!.RunAsync($"kubectl apply --server-side --field-manager={Tool} -f config/samples");
            await lab.InventoryAsync("node-1");
            await lab.ReadyAsync("router");
            Assert.Equal([], await reader.ChangesAsync($"--field-manager={Tool} -k config"));
            Assert.Equal([], await reader.ChangesAsync($"--field-manager={Tool} -f config/samples"));
            (int changed, string refused) = await reader.TryAsync(
                $"sed 's/count: 2/count: 1/' config/samples/claims.yaml | kubectl apply --server-side --field-manager={Tool} -f -"
            );
            Assert.NotEqual(0, changed);
            Assert.Contains("delete the claim", refused, StringComparison.Ordinal);

            await reader.RunAsync("kubectl create namespace argocd; kubectl create namespace flux-system");
            await reader.RunAsync("kubectl create configmap argocd-cm -n argocd --from-literal=url=https://argocd.example.com");
            foreach ((string group, string version, string kind) in Foreign)
                await Manifests.InstallCrdAsync(lab.Client, Definition(group, version, kind));
            string[] commands = [.. MarkdownPage.Read(File).Blocks.Where(b => b.Kind.Length == 0).SelectMany(b => b.Commands())];
            Assert.All(commands, c => Assert.StartsWith("kubectl ", c, StringComparison.Ordinal));
            Assert.Equal(9, commands.Length);
            foreach (string command in commands)
            {
                // Part one of taking it down is a commit.
                if (command.Contains("get pcinodes", StringComparison.Ordinal))
                    await TakeClaimsAsync(lab, reader);
                string said = await reader.RunAsync(command);
                if (command.Contains("get pcinodes", StringComparison.Ordinal))
                    Assert.Equal("", said);
                if (command.Contains("argocd-cm", StringComparison.Ordinal))
                    await SettingsAreMergedAsync(reader);
            }

            Assert.Equal("", await reader.RunAsync("kubectl get crds -o name | grep pcioperator || true"));
            foreach (string yaml in MarkdownPage.Read(File).Fenced("yaml"))
                Assert.Equal("PassthroughClaim", Manifests.Read(yaml).Single()["kind"]!.ToString());
        }
        finally
        {
            if (lab is not null)
                await lab.DisposeAsync();
            reader?.Dispose();
        }
    }

    [Fact]
    public async Task Manifests_name_what_there_is_and_fields_that_Argo_CD_and_Flux_have()
    {
        List<JsonObject> objects =
        [
            .. Directory
                .GetFiles(Path.Combine(Kubectl.Repository, "config", "gitops"), "*.yaml", SearchOption.AllDirectories)
                .Where(f => !f.EndsWith(ArgoHealth.Settings, StringComparison.Ordinal))
                .Order(StringComparer.Ordinal)
                .SelectMany(f => Manifests.Read(System.IO.File.ReadAllText(f))),
        ];
        Assert.Equal(10, objects.Count);
        Assert.Equal(Foreign.Select(f => f.Kind).Order(), objects.Select(o => o["kind"]!.ToString()).Distinct().Order());
        foreach (JsonObject o in objects)
        {
            string kind = o["kind"]!.ToString();
            Assert.Contains(Foreign, f => f.Kind == kind && $"{f.Group}/{f.Version}" == o["apiVersion"]!.ToString());
            Assert.Equal([], Fields(o["spec"]!, "").Except(Known[kind]));
        }

        // Sources and dependencies are in the same files; paths are folders of this repository, but for those of the reader's own.
        List<JsonObject> ours = [.. objects.Where(o => !o.ToJsonString().Contains("fleet", StringComparison.Ordinal))];
        HashSet<string> sources = [.. objects.Where(o => o["kind"]!.ToString() == "GitRepository").Select(Name)],
            kustomizations = [.. objects.Where(o => o["kind"]!.ToString() == "Kustomization").Select(Name)];
        foreach (JsonObject o in objects)
        {
            if ((o["spec"]!["sourceRef"] ?? o["spec"]!["chart"]?["spec"]!["sourceRef"]) is { } source)
                Assert.Contains(source["name"]!.ToString(), sources);
            Assert.All(o["spec"]!["dependsOn"]?.AsArray() ?? [], d => Assert.Contains(d!["name"]!.ToString(), kustomizations));
        }

        foreach (JsonObject o in ours.Where(o => o["kind"]!.ToString() != "GitRepository"))
        {
            JsonNode spec = o["spec"]!;
            string path = (spec["path"] ?? spec["source"]?["path"] ?? spec["chart"]!["spec"]!["chart"])!.ToString();
            if (o["kind"]!.ToString() == "HelmRelease")
            {
                string rendered = Helm.Text(
                    await Helm.ObjectsAsync(Path.Combine(Kubectl.Repository, path), spec["values"]!.ToJsonString())
                );
                Assert.All(Images, i => Assert.Contains($"image: {i}", rendered, StringComparison.Ordinal));
                continue;
            }

            string built = await Kubectl.RunAsync("{}", "kustomize", Path.Combine(Kubectl.Repository, path));
            List<(string Name, string New)> images =
            [
                .. (spec["images"]?.AsArray() ?? []).Select(i => (i!["name"]!.ToString(), $"{i["newName"]}:{i["newTag"]}")),
                .. (spec["source"]?["kustomize"]?["images"]?.AsArray() ?? []).Select(i =>
                    (i!.ToString().Split('=')[0], i.ToString().Split('=')[1])
                ),
            ];
            // Every image of ours is given another name, and none that there isn't.
            Assert.Equal(
                Regex.Matches(built, "image: (pcioperator/[a-z]+):").Select(m => m.Groups[1].Value).Order(StringComparer.Ordinal),
                images.Select(i => i.Name).Order(StringComparer.Ordinal)
            );
            if (images.Count > 0)
                Assert.Equal(Images.Order(), images.Select(i => i.New).Order());
        }

        // Definitions never go by themselves.
        JsonNode argo = objects.Single(o => Name(o) == "pcioperator-crds" && o["kind"]!.ToString() == "Application");
        Assert.Null(argo["metadata"]!["finalizers"]);
        Assert.False(argo["spec"]!["syncPolicy"]!["automated"]!["prune"]!.GetValue<bool>());
        string[] options = [.. argo["spec"]!["syncPolicy"]!["syncOptions"]!.AsArray().Select(s => s!.ToString())];
        Assert.Contains("Prune=false", options);
        Assert.Contains("Delete=false", options);
        JsonNode flux = objects.Single(o => Name(o) == "pcioperator-crds" && o["kind"]!.ToString() == "Kustomization");
        Assert.False(flux["spec"]!["prune"]!.GetValue<bool>());
    }

    [Fact]
    public void Both_tools_have_a_check_for_every_kind_that_a_person_writes()
    {
        string[] kinds = ["PassthroughClaim", "PciAlias", "PciDeviceSpec", "PciQuota"];
        Assert.Equal(kinds, ArgoHealth.Scripts.Keys.Order(StringComparer.Ordinal));
        Assert.Equal(kinds, FluxHealth.Checks.Keys.Order(StringComparer.Ordinal));
    }

    private const string Tool = "gitops";

    private static readonly string[] Images =
    [
        "registry.example.com/pcioperator/controller:0.1.0",
        "registry.example.com/pcioperator/agent:0.1.0",
    ];

    private static readonly (string Group, string Version, string Kind)[] Foreign =
    [
        ("argoproj.io", "v1alpha1", "Application"),
        ("source.toolkit.fluxcd.io", "v1", "GitRepository"),
        ("kustomize.toolkit.fluxcd.io", "v1", "Kustomization"),
        ("helm.toolkit.fluxcd.io", "v2", "HelmRelease"),
    ];

    /// <summary>Fields of their specs, as the definitions of Argo CD 3 and Flux 2 spell them; not all: those that our manifests may have.</summary>
    private static readonly Dictionary<string, string[]> Known = new()
    {
        ["Application"] =
        [
            ".project",
            ".source.repoURL",
            ".source.targetRevision",
            ".source.path",
            ".source.kustomize.images",
            ".destination.server",
            ".destination.namespace",
            ".syncPolicy.automated.prune",
            ".syncPolicy.automated.selfHeal",
            ".syncPolicy.syncOptions",
            ".syncPolicy.retry.limit",
        ],
        ["GitRepository"] = [".interval", ".url", ".ref.tag", ".ref.branch"],
        ["Kustomization"] =
        [
            ".dependsOn.name",
            ".interval",
            ".retryInterval",
            ".timeout",
            ".sourceRef.kind",
            ".sourceRef.name",
            ".path",
            ".prune",
            ".wait",
            ".images.name",
            ".images.newName",
            ".images.newTag",
            ".healthCheckExprs.apiVersion",
            ".healthCheckExprs.kind",
            ".healthCheckExprs.current",
            ".healthCheckExprs.failed",
            ".healthCheckExprs.inProgress",
        ],
        ["HelmRelease"] =
        [
            ".interval",
            ".releaseName",
            ".targetNamespace",
            ".storageNamespace",
            ".chart.spec.chart",
            ".chart.spec.reconcileStrategy",
            ".chart.spec.sourceRef.kind",
            ".chart.spec.sourceRef.name",
            ".uninstall.timeout",
            ".values",
        ],
    };

    /// <summary>The fields that an object has; <c>values</c> are the chart's own.</summary>
    private static IEnumerable<string> Fields(JsonNode? node, string path) =>
        node switch
        {
            _ when path == ".values" => [path],
            JsonObject o => o.SelectMany(p => Fields(p.Value, $"{path}.{p.Key}")),
            JsonArray a when a.All(i => i is JsonObject) => a.SelectMany(i => Fields(i, path)),
            _ => [path],
        };

    private static string Name(JsonNode o) => o["metadata"]!["name"]!.ToString();

    private static async Task SettingsAreMergedAsync(Reader reader)
    {
        JsonNode data = JsonNode.Parse(await reader.RunAsync("kubectl get configmap argocd-cm -n argocd -o json"))!["data"]!;
        Assert.Equal("https://argocd.example.com", data["url"]!.ToString());
        foreach ((string kind, string script) in ArgoHealth.Scripts)
            Assert.Equal(script, data["resource.customizations.health.pcioperator.io_" + kind]!.ToString());
    }

    private static async Task TakeClaimsAsync(LabCluster lab, Reader reader)
    {
        IReadOnlyDictionary<string, IReadOnlyDictionary<string, string?>> held = lab.Drivers();
        await reader.RunAsync("kubectl delete ptc --all -A; kubectl delete pds,pa,pq --all");
        Assert.NotEqual(held["node-1"], lab.Drivers()["node-1"]);
        await lab.UntilAsync(
            "node-1 to hold nothing",
            () => lab.Client.GetAsync<PciNode>("node-1"),
            n => n.Spec.Assignments is not { Count: > 0 } && n.Status?.Assignments is not { Count: > 0 }
        );
    }

    private static string Definition(string group, string version, string kind)
    {
        string plural = kind.ToLowerInvariant() + (kind.EndsWith('y') ? "" : "s");
        if (kind.EndsWith('y'))
            plural = plural[..^1] + "ies";
        return $$$"""
            apiVersion: apiextensions.k8s.io/v1
            kind: CustomResourceDefinition
            metadata: {name: "{{{plural}}}.{{{group}}}" }
            spec:
              group: {{{group}}}
              scope: Namespaced
              names: {plural: {{{plural}}}, singular: {{{kind.ToLowerInvariant()}}}, kind: {{{kind}}}, listKind: {{{kind}}}List}
              versions:
                - name: {{{version}}}
                  served: true
                  storage: true
                  schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
            """;
    }

    /// <summary>Objects of the real controller, in every state that it writes of itself.</summary>
    private static async Task<IReadOnlyList<(string State, JsonNode Object)>> StatesAsync(DeliveryLab lab)
    {
        const string wrong = """
            apiVersion: pcioperator.io/v1alpha1
            kind: PciDeviceSpec
            metadata: {name: wrong}
            spec: {devices: [{addressPattern: {slot: "[0-"}}]}
            """;
        var states = new List<(string, JsonNode)>();
        var says = new Dictionary<string, (HoldingState, string?)> { ["binding"] = (HoldingState.Preparing, null) };
        lab.Agent = (_, a) => says.GetValueOrDefault(a.ClaimName, (HoldingState.Prepared, null));
        await lab.Client.CreateAsync(
            new PciQuota
            {
                Metadata = new V1ObjectMeta { Name = "everybody" },
                Spec = new PciQuotaSpec { Limits = [new QuotaLimit { Alias = "*", Devices = 20 }] },
            }
        );

        states.Add(("claim that the controller has not seen yet", Unseen(await lab.ClaimAsync("waiting", count: 16))));
        await lab.SaysAsync("waiting", Conditions.Scheduled, "False", "NoNodeFits");
        await ShowAsync("claim that waits for devices", "waiting");
        await lab.ClaimAsync("offered", configure: s => s.BindingMode = BindingMode.WaitForFirstConsumer);
        await lab.SaysAsync("offered", Conditions.Ready, "True", "Offered");
        await ShowAsync("claim that waits for its first pod", "offered");
        await lab.ClaimAsync("binding", configure: s => s.NodeName = "node-1");
        await lab.SaysAsync("binding", Conditions.Prepared, "False", "Preparing");
        await ShowAsync("claim whose devices are being bound (`Claimed`)", "binding");
        await lab.ClaimAsync("ready", configure: s => s.NodeName = "node-2");
        await lab.SaysAsync("ready", Conditions.Ready, "True", "Ready");
        await ShowAsync("claim that can be used (`Allocated`, `Ready`)", "ready");

        says["ready"] = (HoldingState.Stuck, "DeviceGone");
        await lab.SaysAsync("ready", Conditions.Stalled, "True", "DeviceGone");
        await ShowAsync("claim that has lost a device", "ready");
        says["ready"] = (HoldingState.Prepared, null);
        PassthroughClaim back = await lab.SaysAsync("ready", Conditions.Ready, "True", "Ready");
        Assert.Null(back.Status!.Conditions.Find(Conditions.Stalled));

        await NodeAsync(
            "node-2",
            n =>
                n.Status!.Conditions = [
                    new V1NodeCondition
                    {
                        Type = "Ready",
                        Status = "Unknown",
                        Reason = "NodeStatusUnknown",
                    },
                ]
        );
        await lab.SaysAsync("ready", Conditions.Ready, "Unknown", "NodeUnreachable");
        await ShowAsync("claim whose node can't be reached", "ready");
        await lab.Client.DeleteAsync<V1Node>("node-2");
        await lab.SaysAsync("ready", Conditions.Stalled, "True", "NodeGone");
        await ShowAsync("claim whose node was deleted while a VM may have it", "ready");

        await lab.ClaimAsync("used", configure: s => s.NodeName = "node-3");
        await lab.SaysAsync("used", Conditions.Ready, "True", "Ready");
        await lab.AllocateAsync("used", "node-3", "launcher");
        await lab.SaysAsync("used", Conditions.InUse, "True", "Reserved");
        await lab.Client.DeleteAsync<PassthroughClaim>("used", "default");
        await lab.SaysAsync("used", Conditions.Ready, "False", "Releasing");
        await ShowAsync("claim that is deleted (`Releasing`)", "used");

        await lab.Client.PatchAsync<PciDeviceSpec>("drives", null, EntityPatch.Merge("""{"spec":{"driver":"pci-stub"}}"""));
        await lab.UntilAsync(
            "the rule to change",
            () => lab.Client.GetAsync<PciNode>("node-4"),
            n => n.Spec.Rules!.Any(r => r.Driver == BindDriver.PciStub)
        );
        await lab.ClaimAsync("held", configure: s => s.NodeName = "node-4");
        await lab.SaysAsync("held", Conditions.Ready, "False", "StubDriver");
        await ShowAsync("claim whose devices `pci-stub` holds", "held");

        await ShowOtherAsync("spec that is accepted", "pcidevicespecs", "drives");
        await WithoutRulesAsync("pcidevicespecs");
        await lab.UntilAsync("a spec that today's definition refuses", () => TryAsync(wrong), s => s.Metadata.Name == "wrong");
        await ShowOtherAsync("spec that can't be used", "pcidevicespecs", "wrong");
        await ShowOtherAsync("alias that is accepted", "pcialiases", "drive-0a51");
        await ShowOtherAsync("quota", "pciquotas", "everybody");
        await ShowOtherAsync("PciNode whose agent has taken up its spec", "pcinodes", "node-4");
        return states;

        // As a definition of an earlier version may be, which checks less.
        async Task WithoutRulesAsync(string plural)
        {
            string path = $"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{plural}.pcioperator.io";
            JsonNode definition = await RawAsync(path);
            Strip(definition["spec"]!["versions"]![0]!["schema"]);
            byte[] body = Encoding.UTF8.GetBytes(definition.ToJsonString());
            (await lab.Client.SendRawAsync(HttpMethod.Put, path, body)).Dispose();
        }

        static void Strip(JsonNode? node)
        {
            (node as JsonObject)?.Remove("x-kubernetes-validations");
            foreach (JsonNode? child in (node as JsonObject)?.Select(p => p.Value) ?? (node as JsonArray) ?? Enumerable.Empty<JsonNode?>())
                Strip(child);
        }

        async Task<PciDeviceSpec?> TryAsync(string yaml)
        {
            try
            {
                await Manifests.ApplyAsync(lab.Client, yaml);
                return await lab.Client.GetAsync<PciDeviceSpec>("wrong");
            }
            catch (ApiException refused) when (refused.Message.Contains("not a regular expression", StringComparison.Ordinal))
            {
                return null;
            }
        }

        async Task ShowAsync(string state, string name) =>
            states.Add((state, await RawAsync($"/apis/pcioperator.io/v1alpha1/namespaces/default/passthroughclaims/{name}")));

        async Task ShowOtherAsync(string state, string plural, string name)
        {
            string path = $"/apis/pcioperator.io/v1alpha1/{plural}/{name}";
            JsonNode o = await RawAsync(path);
            for (int i = 0; i < 3000 && (o["status"]?["observedGeneration"] is null || Kstatus.IsBehind(o)); i++)
            {
                await Task.Delay(20);
                o = await RawAsync(path);
            }

            Assert.False(o["status"]?["observedGeneration"] is null || Kstatus.IsBehind(o), $"nobody has seen {path}: {o}");
            states.Add((state, o));
        }

        async Task<JsonNode> RawAsync(string path)
        {
            using JsonDocument answer = await lab.Client.GetRawAsync(path);
            return JsonNode.Parse(answer.RootElement.GetRawText())!;
        }

        JsonNode Unseen(PassthroughClaim claim)
        {
            Assert.Null(claim.Status);
            return JsonSerializer.SerializeToNode(claim, PciOperatorJsonContext.Default.PassthroughClaim)!;
        }

        async Task NodeAsync(string name, Action<V1Node> change)
        {
            V1Node node = (await lab.Client.GetAsync<V1Node>(name))!;
            change(node);
            await lab.Client.UpdateStatusAsync(node);
        }
    }
}
