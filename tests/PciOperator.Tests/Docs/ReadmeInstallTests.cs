using System.Text.RegularExpressions;
using PciOperator.Api;
using PciOperator.Sandbox.Cluster;
using PciOperator.Testing;
using YamlDotNet.RepresentationModel;

namespace PciOperator.Tests.Docs;

/// <summary>
/// README's part on installing, from its heading to that of VMs, followed word for word against a real API server. What can't be there is
/// stood in for: the images (`make images` and pushing them: `make test-images` tries them), NativeAOT's plugin (`make kubectl-pci`: the same
/// program, not compiled ahead), events as kubectl describes them, Helm (the chart rendered as PCI_TEST_HELM does it, and applied), and nodes: the programs run in this process,
/// as the service accounts that were installed, agents on simulated hosts. A command that is not known here fails the test.
/// </summary>
[Turns(4)]
public sealed partial class ReadmeInstallTests
{
    private const string InstallYaml = "kubectl apply --server-side -f artifacts/install.yaml";

    private static readonly MarkdownPage Page = MarkdownPage.Read(
        "README.md",
        "## Install on a cluster",
        "### A VM or pod with the devices"
    );

    [TurnFact]
    public async Task What_is_written_there_is_what_one_sees()
    {
        Reader? reader = null;
        var blocks = new Queue<Block>(Page.Blocks);
        var later = new List<Block>();
        var used = new HashSet<string>();
        LabCluster? lab = null;
        string node = "NODE";
        try
        {
            lab = await LabCluster.StartAsync(
                real: true,
                installed: true,
                install: async server =>
                {
                    reader = await Reader.StartAsync(server.KubeconfigText);
                    await FollowAsync(until: InstallYaml);
                }
            );
            await lab.WithNodesAsync(2);
            await FollowAsync(until: null);
            foreach (Block block in later)
                await FollowBlockAsync(block);
            Assert.Equal([], Commands.Select(k => k.Begins).Where(k => !used.Contains(k)));

            // What the page says of a claim's end.
            (int code, string refused) = await reader!.TryAsync(
                """kubectl patch ptc first --type merge -p '{"spec":{"requests":[{"name":"nic","alias":"a1","count":1}]}}'"""
            );
            Assert.True(code != 0 && refused.Contains("delete the claim", StringComparison.Ordinal), refused);
        }
        finally
        {
            if (lab is not null)
                await lab.DisposeAsync();
            reader?.Dispose();
        }

        async Task FollowAsync(string? until)
        {
            while (blocks.TryDequeue(out Block? block))
            {
                if (block.Kind == Block.Span && !Typed().IsMatch(block.Text))
                    continue;
                Known? known = block.Kind == "yaml" ? null : Find(block.Commands().First());
                if (known?.When == When.AtTheEnd || (lab is null && block.Kind == Block.Span))
                {
                    later.Add(block);
                    continue;
                }

                await FollowBlockAsync(block);
                if (until is not null && block.Text.Contains(until, StringComparison.Ordinal))
                    return;
            }
        }

        async Task FollowBlockAsync(Block block)
        {
            if (block.Kind == "yaml")
            {
                await File.WriteAllTextAsync(reader!.PathOf(block.Named), block.Text);
                return;
            }

            if (Find(block.Commands().First()).When == When.InAnotherTest)
            {
                foreach (string command in block.Commands())
                    used.Add(Find(command).Begins);
                return;
            }

            foreach (string command in block.Commands())
                await DoAsync(command);
        }

        async Task DoAsync(string command)
        {
            Known known = Find(command);
            used.Add(known.Begins);
            if (known.Does is not null)
                await known.Does(new Step(command.Replace("NODE", node, StringComparison.Ordinal), reader!, lab));
            if (command == "kubectl apply -f first.yaml")
                node = (await lab!.GetAsync("first"))!.Status!.NodeName!;
        }
    }

    [TurnFact]
    public Task The_chart_makes_the_same_objects_as_the_one_file() => MakesTheSameAsync("helm install ");

    [TurnFact]
    public Task Kustomize_makes_the_same_objects_as_the_one_file() => MakesTheSameAsync("make image-names ");

    private static async Task MakesTheSameAsync(string way)
    {
        await using TestApiServer server = await TestApiServer.RealAsync();
        using Reader reader = await Reader.StartAsync(server.KubeconfigText);
        foreach (string command in Page.Blocks.Single(b => b.Text.StartsWith(way, StringComparison.Ordinal)).Commands())
            await Find(command).Does!(new Step(command, reader, null));
        await reader.RunAsync(Page.Blocks.Single(b => b.Text.Contains(InstallYaml, StringComparison.Ordinal)).Commands().First());

        // All of the file are there, and nothing of theirs is otherwise than the file has it.
        Assert.Equal([], await reader.ChangesAsync("--force-conflicts --field-manager=kubectl -f artifacts/install.yaml"));
        string images = await reader.RunAsync(
            "kubectl get deployment,daemonset -A -o jsonpath='{range .items[*]}{.spec.template.spec.containers[0].image}{\"\\n\"}{end}'"
        );
        Assert.Equal(
            ["registry.example.com/pcioperator/agent:0.1.0", "registry.example.com/pcioperator/controller:0.1.0"],
            images.Trim().Split('\n').Order(StringComparer.Ordinal)
        );
    }

    [TurnFact]
    public async Task Names_that_no_image_can_have_are_refused()
    {
        using Reader reader = await Reader.StartAsync("{}");
        foreach (
            (string arguments, string why) in ((string, string)[])
                [
                    ("image-names REGISTRY=https://registry.example.com", "without https://"),
                    ("install-yaml REGISTRY=https://registry.example.com", "without https://"),
                    ("image-names REGISTRY=Registry.example.com", "is not where an image can be"),
                    ("install-yaml TAG=a/b", "can't be an image's tag"),
                ]
        )
        {
            (int code, string said) = await reader.TryAsync($"make {arguments}");
            Assert.NotEqual(0, code);
            Assert.Contains(why, said, StringComparison.Ordinal);
        }

        Assert.False(File.Exists(reader.PathOf("artifacts/install.yaml")));
    }

    /// <summary>A command at the moment when it is typed.</summary>
    private sealed record Step(string Command, Reader Reader, LabCluster? Cluster)
    {
        public LabCluster Lab => Cluster ?? throw new InvalidOperationException($"{Command}: nothing is installed yet.");

        public Task<string> RunAsync() => Reader.RunAsync(Command);

        /// <summary>Types it, until it shows all of some words.</summary>
        public async Task ShowsAsync(params string[] words) =>
            await Lab.UntilAsync(
                $"'{Command}' to show {string.Join(", ", words)}",
                async () => await RunAsync(),
                said => words.All(w => said.Contains(w, StringComparison.Ordinal))
            );
    }

    private enum When
    {
        Here,
        AtTheEnd,
        InAnotherTest,
    }

    /// <summary>A command that the page may have.</summary>
    /// <param name="Begins">How it begins.</param>
    /// <param name="Does">Types it and looks at what it has done; null: it can't be typed here.</param>
    /// <param name="When">When the test types it.</param>
    private sealed record Known(string Begins, Func<Step, Task>? Does, When When = When.Here);

    private static Known Find(string command) =>
        Mentioned.Contains(command)
            ? new Known(command, null)
            : Commands.Where(k => IsOf(command, k.Begins)).MaxBy(k => k.Begins.Length)
                ?? throw new InvalidOperationException($"README has a command that this test does not know: {command}");

    /// <summary>Whether a command begins so, in whole words.</summary>
    private static bool IsOf(string command, string begins) =>
        command.StartsWith(begins, StringComparison.Ordinal)
        && (command.Length == begins.Length || begins[^1] is ' ' or '=' || command[begins.Length] == ' ');

    /// <summary>What prose speaks of and nobody types.</summary>
    private static readonly string[] Mentioned = ["kubectl pci", "buildah push", "helm upgrade", "lspci -nn"];

    private static readonly Known[] Commands =
    [
        // Need an engine and a registry: make test-images tries them.
        new("make images ", null),
        new("for image in controller agent kubectl-pci; do docker push ", null),
        new("make install-yaml ", s => s.RunAsync()),
        new(InstallYaml, s => s.RunAsync()),
        new("make image-names ", s => s.RunAsync(), When.InAnotherTest),
        new("kubectl apply -k config", UpgradeAsync),
        new("helm install ", InstallChartAsync, When.InAnotherTest),
        new("make kubectl-pci", PublishPluginAsync),
        new("mkdir -p ~/.local/bin ", s => s.RunAsync()),
        new("kubectl get pn", s => s.ShowsAsync("IOMMU", "VFIO", "node-1   True", "node-2   True")),
        new("kubectl pci nodes", s => s.ShowsAsync("node-1", "node-2", "True")),
        new("kubectl delete -n pcioperator-system ", DeleteEarlierControllerAsync, When.AtTheEnd),
        new("kubectl pci discover > mine.yaml", DiscoverAsync),
        new("kubectl apply -f mine.yaml", ApplyProposalsAsync),
        new("kubectl delete -f mine.yaml", s => s.RunAsync()),
        new("cp -r config/samples mine", s => s.RunAsync()),
        new("${EDITOR:-vi} mine/device-specs.yaml mine/aliases.yaml", s => s.RunAsync()),
        new("kubectl apply -f mine/device-specs.yaml ", ApplySamplesAsync),
        new("kubectl apply -f first.yaml", ClaimAsync),
        new("kubectl get pds,pa,ptc,pn -o wide", s => s.ShowsAsync("intel-82576", "tenant-vf", "first", "Allocated", "node-2")),
        new("kubectl describe ptc first", DescribeClaimAsync),
        new("kubectl get ptc -A --field-selector status.nodeName=", s => s.ShowsAsync("first")),
        new("kubectl describe pn ", s => s.ShowsAsync("IommuEnabled", "VfioReady", "0000:21:10.0", "unavailable", "the default route")),
        new("kubectl describe node ", s => s.ShowsAsync("PciPassthroughReady")),
        new("kubectl explain ptc.spec.requests", s => s.ShowsAsync("alias", "numaPolicy")),
        new("kubectl explain pds.spec", s => s.ShowsAsync("nodeSelector", "sriov")),
        new("kubectl pci devices", s => s.ShowsAsync("82576 Virtual Function", "igbvf", "default/first")),
        new("kubectl pci claim create second ", CreateClaimAsync),
        new("kubectl pci explain second", s => s.ShowsAsync("default/second", "Allocated")),
        new("kubectl pci simulate ", s => s.ShowsAsync("would be placed on node-", "AFTER IT")),
        new("kubectl pci diagnose", s => s.ShowsAsync("problem")),
        new("kubectl pci ui", OpenPageAsync),
    ];

    /// <summary>Applies what the chart renders to; with its values, as <c>--set</c> gives them.</summary>
    private static async Task InstallChartAsync(Step step)
    {
        string[] words = step.Command.Replace("\\\n", " ", StringComparison.Ordinal).Split(' ', StringSplitOptions.RemoveEmptyEntries);
        Assert.Equal(["helm", "install", "pci-operator", "charts/pci-operator", "--namespace", "kube-system"], words[..6]);
        var values = new YamlMappingNode();
        foreach (string[] set in words[6..].Chunk(2))
        {
            Assert.Equal("--set", set[0]);
            (string path, string value) = (set[1].Split('=')[0], set[1].Split('=')[1]);
            YamlMappingNode at = values;
            foreach (string key in path.Split('.')[..^1])
            {
                if (!at.Children.ContainsKey(key))
                    at.Add(key, new YamlMappingNode());
                at = (YamlMappingNode)at[key];
            }

            at.Add(path.Split('.')[^1], value);
        }

        IReadOnlyList<YamlMappingNode> objects = await Helm.ObjectsAsync(step.Reader.PathOf("charts/pci-operator"), Helm.Text([values]));
        await File.WriteAllTextAsync(step.Reader.PathOf("rendered.yaml"), Helm.Text(objects));
        await step.Reader.RunAsync("kubectl apply --server-side --validate=strict --field-manager=helm -f rendered.yaml");
    }

    /// <summary>The plugin at the place where NativeAOT's would be.</summary>
    private static async Task PublishPluginAsync(Step step)
    {
        string program = Path.Combine(AppContext.BaseDirectory, "kubectl-pci.dll");
        Assert.True(File.Exists(program), program);
        string published = step.Reader.PathOf("artifacts/publish/kubectl-pci/kubectl-pci");
        Directory.CreateDirectory(Path.GetDirectoryName(published)!);
        await File.WriteAllTextAsync(published, $"#!/bin/sh\nexec dotnet '{program}' \"$@\"\n");
        await step.Reader.RunAsync("chmod +x artifacts/publish/kubectl-pci/kubectl-pci");
    }

    private static async Task DiscoverAsync(Step step)
    {
        await step.Lab.UntilAsync(
            "proposals",
            () => step.Reader.TryAsync(step.Command).ContinueWith(t => (object?)t.Result),
            r => r is (int code, string) && code == 0
        );
        string proposals = await File.ReadAllTextAsync(step.Reader.PathOf("mine.yaml"));
        Assert.Equal(
            ["PciAlias", "PciDeviceSpec"],
            Manifests.Read(proposals).Select(o => o["kind"]!.ToString()).Distinct().Order(StringComparer.Ordinal)
        );
        // What a guard refuses is a comment.
        Assert.Contains("# Not proposed: ", proposals, StringComparison.Ordinal);
    }

    private static async Task ApplyProposalsAsync(Step step)
    {
        await step.RunAsync();
        foreach (
            string name in Manifests
                .Read(await File.ReadAllTextAsync(step.Reader.PathOf("mine.yaml")))
                .Where(o => o["kind"]!.ToString() == "PciAlias")
                .Select(o => o["metadata"]!["name"]!.ToString())
        )
        {
            await step.Lab.UntilAsync(
                $"alias {name} to mean devices",
                () => step.Lab.Client.GetAsync<PciAlias>(name),
                a => a.Status?.Devices > 0
            );
        }
    }

    private static async Task ApplySamplesAsync(Step step)
    {
        await step.RunAsync();
        foreach (string node in step.Lab.Cluster.Nodes.Keys)
            await step.Lab.InventoryAsync(node);
    }

    private static async Task ClaimAsync(Step step)
    {
        await step.RunAsync();
        PassthroughClaim claim = await step.Lab.ReadyAsync("first");
        Assert.Equal(ClaimPhase.Allocated, claim.Status!.Phase);
        Assert.Equal(2, claim.Status.Devices!.Count);
        Assert.All(claim.Status.Devices, d => Assert.Equal("vfio-pci", step.Lab.Driver(claim.Status.NodeName!, d.Address)));
    }

    /// <summary>
    /// A claim's events are of events.k8s.io. An API server shows them as core ones, too, which kubectl describes; the test API server keeps the
    /// two apart, so they are asked for by their own name.
    /// </summary>
    private static async Task DescribeClaimAsync(Step step)
    {
        await step.ShowsAsync("Scheduled", "Prepared", "0000:21:10.", "Events:");
        string[] events = ["Placed", "Prepared", "Ready"];
        await step.Lab.UntilAsync(
            "its events",
            async () =>
                await step.Reader.RunAsync(
                    "kubectl get events.events.k8s.io -o jsonpath='{range .items[?(@.regarding.name==\"first\")]}{.reason} {end}'"
                ),
            said => events.All(e => said.Split(' ').Contains(e))
        );
    }

    private static async Task CreateClaimAsync(Step step)
    {
        Assert.Contains("passthroughclaim.pcioperator.io/second created", await step.RunAsync(), StringComparison.Ordinal);
        Assert.Equal(2, (await step.Lab.ReadyAsync("second")).Status!.Devices!.Count);
    }

    private static async Task OpenPageAsync(Step step)
    {
        using System.Diagnostics.Process page = step.Reader.Start(step.Command);
        try
        {
            string? address = await page.StandardOutput.ReadLineAsync();
            using var browser = new HttpClient();
            Assert.Contains("<html", await browser.GetStringAsync(address), StringComparison.OrdinalIgnoreCase);
        }
        finally
        {
            page.Kill(entireProcessTree: true);
        }
    }

    /// <summary>An installation of the time when the controller was in the agents' namespace has these objects.</summary>
    private static async Task DeleteEarlierControllerAsync(Step step)
    {
        string[] kinds = ["Deployment", "PodDisruptionBudget", "NetworkPolicy", "ServiceAccount", "Role", "RoleBinding"];
        List<YamlMappingNode> earlier = [.. Helm.Read(await step.Reader.RunAsync("kubectl kustomize config/program")).Where(IsControllers)];
        Assert.Equal(
            kinds.Order(StringComparer.Ordinal),
            earlier.Select(o => o["kind"].ToString()).Distinct().Order(StringComparer.Ordinal)
        );
        foreach (YamlMappingNode o in earlier)
            ((YamlMappingNode)o["metadata"]).Children["namespace"] = SandboxCluster.Namespace;
        await File.WriteAllTextAsync(step.Reader.PathOf("earlier.yaml"), Helm.Text(earlier));
        await step.Reader.RunAsync("kubectl apply -f earlier.yaml");
        await step.RunAsync();
        Assert.Equal("", await step.Reader.RunAsync("kubectl get --ignore-not-found -f earlier.yaml"));

        bool IsControllers(YamlMappingNode o) =>
            kinds.Contains(o["kind"].ToString())
            && o["metadata"]["name"].ToString() == "pcioperator-controller"
            && o["metadata"]["namespace"].ToString() == SandboxCluster.ControllerNamespace;
    }

    /// <summary>Claims keep what they have.</summary>
    private static async Task UpgradeAsync(Step step)
    {
        PassthroughClaim? before = step.Cluster is null ? null : await step.Lab.ReadyAsync("first");
        await step.RunAsync();
        if (before is null)
            return;
        PassthroughClaim after = (await step.Lab.GetAsync("first"))!;
        Assert.Equal(before.Status!.Devices!.Select(d => d.Address), after.Status!.Devices!.Select(d => d.Address));
        Assert.True(after.Status.Conditions.IsTrue(Conditions.Ready));
        Assert.Equal(before.Metadata.Uid, after.Metadata.Uid);
    }

    [GeneratedRegex("^(kubectl|make|helm|docker|buildah|lspci|sudo|curl) ")]
    private static partial Regex Typed();
}
