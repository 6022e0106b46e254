using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using PciOperator.Testing;
using YamlDotNet.RepresentationModel;

namespace PciOperator.Tests;

/// <summary>The Helm chart: the same objects as <c>kubectl apply -k config</c>, and what its values change.</summary>
[Turns(3)]
public sealed class ChartTests
{
    private const string Monitored =
        "{agent: {metricsPort: 8082}, monitoring: {podMonitor: {enabled: true}, prometheusRule: {enabled: true}, dashboard: {enabled: true}}}";

    private static readonly string Chart = Path.Combine(Kubectl.Repository, "charts", "pci-operator");

    [Fact]
    public async Task Chart_and_kustomize_differ_in_nothing_but_labels()
    {
        Dictionary<string, string> chart = Bare(await Helm.ObjectsAsync(Chart));
        Dictionary<string, string> kustomize = Bare(await KustomizeAsync("config"));

        Assert.Equal(kustomize.Keys.Order(StringComparer.Ordinal), chart.Keys.Order(StringComparer.Ordinal));
        Assert.All(kustomize, o => Assert.Equal(o.Value, chart[o.Key]));
    }

    [Fact]
    public async Task The_switch_for_KubeVirts_list_adds_what_config_kubevirt_has()
    {
        string file = Path.Combine(Kubectl.Repository, "config", "kubevirt", "permitted-host-devices.yaml");
        Dictionary<string, string> without = Bare(await Helm.ObjectsAsync(Chart));
        var added = Bare(await Helm.ObjectsAsync(Chart, "kubevirt: {permittedHostDevices: true}"))
            .Where(o => !without.ContainsKey(o.Key))
            .ToDictionary();

        Assert.Equal(Bare(Helm.Read(await File.ReadAllTextAsync(file))), added);
    }

    [Fact]
    public async Task The_switches_for_monitoring_add_what_config_monitoring_has()
    {
        Dictionary<string, string> without = Bare(await Helm.ObjectsAsync(Chart));
        var added = Bare(await Helm.ObjectsAsync(Chart, Monitored)).Where(o => !without.ContainsKey(o.Key)).ToDictionary();
        Dictionary<string, string> config = Bare(await KustomizeAsync("config/monitoring"));
        Assert.Equal(config.Keys.Order(StringComparer.Ordinal), added.Keys.Order(StringComparer.Ordinal));
        // Labels are the chart's own there.
        Assert.All(config, o => Assert.Equal(WithoutLabels(o.Value), WithoutLabels(added[o.Key])));

        static string WithoutLabels(string canonical) => Regex.Replace(canonical, @"labels: \{[^}]*\},?\n?", "");
    }

    [Fact]
    public async Task Agents_show_metrics_to_the_network_only_when_told_so_and_as_config_agent_metrics_has_it()
    {
        IReadOnlyList<YamlMappingNode> objects = await Helm.ObjectsAsync(Chart, "agent: {metricsPort: 8082}");
        Assert.Equal(Bare(await KustomizeAsync("config/agent-metrics")), Bare(objects));
        Assert.DoesNotContain("--metrics-address", Helm.Text(await Helm.ObjectsAsync(Chart)), StringComparison.Ordinal);
        // A monitor of a port that no pod has would be of no use.
        Assert.DoesNotContain(
            "PodMonitor pcioperator-system/pcioperator-agent",
            (await Helm.ObjectsAsync(Chart, "monitoring: {podMonitor: {enabled: true}}")).Select(Name)
        );
    }

    [Fact]
    public async Task Traces_go_to_a_collector_when_told_so_and_as_config_traces_has_it()
    {
        DirectoryInfo overlay = Directory.CreateTempSubdirectory("pci-traces-");
        try
        {
            string config = Path.GetRelativePath(overlay.FullName, Path.Combine(Kubectl.Repository, "config"));
            await File.WriteAllTextAsync(
                Path.Combine(overlay.FullName, "kustomization.yaml"),
                $"{{resources: ['{config}'], components: ['{config}/traces']}}"
            );
            IReadOnlyList<YamlMappingNode> objects = await Helm.ObjectsAsync(
                Chart,
                "traces: {endpoint: 'http://collector.observability:4317'}"
            );
            Assert.Equal(Bare(await KustomizeAsync(overlay.FullName)), Bare(objects));
        }
        finally
        {
            overlay.Delete(recursive: true);
        }

        Assert.DoesNotContain("OTEL_", Helm.Text(await Helm.ObjectsAsync(Chart, "traces: {env: {OTEL_A: b}}")), StringComparison.Ordinal);
        IEnumerable<YamlMappingNode> programs = (
            await Helm.ObjectsAsync(
                Chart,
                "traces: {endpoint: 'https://c:4318', protocol: http/protobuf, headersSecret: {name: tokens, key: tempo}, env: {OTEL_TRACES_SAMPLER_ARG: '0.1'}}"
            )
        ).Where(o => Text(o, "kind") is "Deployment" or "DaemonSet");
        Assert.Equal(2, programs.Count());
        Assert.All(
            programs.Select(p => Helm.Text([p])),
            text =>
            {
                Assert.Contains("value: http/protobuf", text, StringComparison.Ordinal);
                Assert.Matches("name: OTEL_EXPORTER_OTLP_HEADERS\n *valueFrom:\n *secretKeyRef:\n *name: tokens\n *key: tempo\n", text);
                Assert.Matches("name: OTEL_TRACES_SAMPLER_ARG\n *value: \"0.1\"\n", text);
            }
        );
    }

    [Fact]
    public async Task Monitors_and_rules_have_the_labels_and_the_runbook_that_values_say()
    {
        string text = Helm.Text(
            (
                await Helm.ObjectsAsync(
                    Chart,
                    "monitoring: {podMonitor: {enabled: true, labels: {release: a}}, prometheusRule: {enabled: true, labels: {release: b}, runbookUrl: 'https://example.com/runbook'}}"
                )
            ).Where(o => Text(o, "kind") is "PodMonitor" or "PrometheusRule")
        );
        Assert.Contains("release: a", text, StringComparison.Ordinal);
        Assert.Contains("release: b", text, StringComparison.Ordinal);
        Assert.Contains("runbook_url: https://example.com/runbook#pcidevicelost", text, StringComparison.Ordinal);
        Assert.DoesNotContain("docs/runbook.md", text, StringComparison.Ordinal);
    }

    [TurnFact]
    public async Task A_real_API_server_takes_every_object_with_strict_validation_and_every_switch_on()
    {
        await using TestApiServer server = await TestApiServer.RealAsync();
        foreach (string? values in new[] { "kubevirt: {permittedHostDevices: true}", null })
        {
            string objects = Helm.Text(await Helm.ObjectsAsync(Chart, values));
            (int code, string said) = await Kubectl.TryApplyAsync(server.KubeconfigText, objects, "--force-conflicts");
            Assert.True(code == 0, said);
        }

        string jobs = Helm.Text(await Helm.HooksAsync(Chart, "crds: {keep: false}"));
        (int hooks, string answer) = await Kubectl.TryApplyAsync(server.KubeconfigText, jobs);
        Assert.True(hooks == 0, answer);
    }

    [Theory]
    [InlineData("admissionPolicies: {enabled: false}", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")]
    [InlineData("crds: {install: false}", "CustomResourceDefinition")]
    [InlineData("delivery: {dra: false}", "DeviceClass")]
    [InlineData("namespaces: {create: false}", "Namespace")]
    [InlineData("podDisruptionBudget: {enabled: false}", "PodDisruptionBudget")]
    [InlineData("networkPolicy: {enabled: false}", "NetworkPolicy")]
    [InlineData("criticalPodsQuota: {enabled: false}", "ResourceQuota")]
    public async Task What_is_switched_off_is_not_there_and_all_else_is(string values, params string[] kinds)
    {
        IEnumerable<string> all = (await Helm.ObjectsAsync(Chart)).Where(o => !kinds.Contains(Text(o, "kind"))).Select(Name);
        Assert.Equal(all, (await Helm.ObjectsAsync(Chart, values)).Select(Name));
    }

    [Fact]
    public async Task In_other_namespaces_nothing_names_the_usual_ones()
    {
        IReadOnlyList<YamlMappingNode> objects = await Helm.ObjectsAsync(
            Chart,
            "{namespaces: {controller: brain, agent: hands}, kubevirt: {permittedHostDevices: true}}"
        );
        string text = Helm.Text([.. objects, .. await Helm.HooksAsync(Chart, "namespaces: {controller: brain, agent: hands}")]);

        Assert.DoesNotContain("pcioperator-system", text, StringComparison.Ordinal);
        Assert.DoesNotContain("namespace: pcioperator-controller", text, StringComparison.Ordinal);
        Assert.DoesNotContain("serviceaccount:pcioperator-controller", text, StringComparison.Ordinal);
        Assert.Contains("--installation=brain/pcioperator-controller", text, StringComparison.Ordinal);
        Assert.Contains("system:serviceaccount:hands:pcioperator-agent", text, StringComparison.Ordinal);
        Assert.Equal(["brain", "hands"], objects.Where(o => Text(o, "kind") == "Namespace").Select(o => Text(o, "metadata", "name")!));
    }

    [Fact]
    public async Task What_values_say_comes_to_the_programs()
    {
        IReadOnlyList<YamlMappingNode> objects = await Helm.ObjectsAsync(
            Chart,
            """
            imagePullSecrets: [{name: registry}]
            controller:
              image: {repository: example.com/c, digest: sha256:0000000000000000000000000000000000000000000000000000000000000000}
              replicas: 3
              refusalPeriod: 00:01:00
              logLevel: debug
              extraArgs: [--agent-selector=a=b]
            agent:
              image: {repository: example.com/a, tag: "2", pullPolicy: Always}
              kubeletDir: /var/lib/k0s/kubelet/
              cdiDir: /etc/cdi
              stateDir: /data/pci
              healthPort: 9999
              deniedDrivers: [nvidia, mlx5_core]
              nodeSelector: {pci: "yes"}
            delivery: {devicePlugin: false, default: DRA}
            """
        );
        string controller = Helm.Text(objects.Where(o => Text(o, "kind") == "Deployment"));
        string agent = Helm.Text(objects.Where(o => Text(o, "kind") == "DaemonSet"));

        Assert.All(
            [
                "image: example.com/c@sha256:0000",
                "replicas: 3",
                "--refusal-period=00:01:00",
                "--log-level=debug",
                "--agent-selector=a=b",
                "--device-plugin=false",
                "--default-delivery=DRA",
                "name: registry",
            ],
            said => Assert.Contains(said, controller, StringComparison.Ordinal)
        );
        Assert.DoesNotContain("--dra=false", controller, StringComparison.Ordinal);
        Assert.All(
            [
                "image: example.com/a:2",
                "imagePullPolicy: Always",
                "--kubelet-dir=/var/lib/k0s/kubelet\n",
                "path: /var/lib/k0s/kubelet/plugins/pcioperator.io\n",
                "mountPath: /var/lib/k0s/kubelet/device-plugins\n",
                "--cdi-dir=/etc/cdi",
                "mountPath: /etc/cdi",
                "--state-dir=/data/pci",
                "path: /data/pci",
                "--health-address=127.0.0.1:9999",
                "hostPort: 9999",
                "--denied-drivers=nvidia,mlx5_core",
                "pci: \"yes\"",
                "name: registry",
            ],
            said => Assert.Contains(said, agent, StringComparison.Ordinal)
        );
    }

    [Fact]
    public async Task Where_nothing_is_handed_out_the_agent_sees_nothing_of_the_kubelet()
    {
        IReadOnlyList<YamlMappingNode> objects = await Helm.ObjectsAsync(Chart, "delivery: {dra: false, devicePlugin: false}");
        string agent = Helm.Text(objects.Where(o => Text(o, "kind") == "DaemonSet"));
        Assert.Contains("--kubelet-dir=\n", agent, StringComparison.Ordinal);
        Assert.DoesNotContain("/var/lib/kubelet", agent, StringComparison.Ordinal);
        Assert.DoesNotContain("cdi", agent, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Definitions_outlive_the_release_and_go_only_with_the_job_that_waits()
    {
        Assert.All(
            (await Helm.ObjectsAsync(Chart)).Where(o => Text(o, "kind") == "CustomResourceDefinition"),
            o => Assert.Equal("keep", Text(o, "metadata", "annotations", "helm.sh/resource-policy"))
        );
        Assert.DoesNotContain("delete-crds", Helm.Text(await Helm.HooksAsync(Chart)), StringComparison.Ordinal);
        string hooks = Helm.Text(await Helm.HooksAsync(Chart, "crds: {keep: false}"));
        Assert.Contains("--delete-crds", hooks, StringComparison.Ordinal);
        foreach (string file in Directory.GetFiles(Path.Combine(Kubectl.Repository, "crds"), "pcioperator.io_*.yaml"))
            Assert.Contains(Text(Helm.Read(await File.ReadAllTextAsync(file))[0], "metadata", "name")!, hooks, StringComparison.Ordinal);
        Assert.Empty(await Helm.HooksAsync(Chart, "uninstall: {wait: false}"));
        InvalidOperationException refused = await Assert.ThrowsAsync<InvalidOperationException>(() =>
            Helm.HooksAsync(Chart, "{crds: {keep: false}, uninstall: {wait: false}}")
        );
        Assert.Contains("crds.keep=false needs uninstall.wait=true", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void The_schema_has_every_value_and_no_other()
    {
        JsonNode schema = JsonNode.Parse(File.ReadAllText(Path.Combine(Chart, "values.schema.json")))!;
        var values = (YamlMappingNode)Helm.Read(File.ReadAllText(Path.Combine(Chart, "values.yaml")))[0];
        Compare("", values, schema);

        void Compare(string path, YamlMappingNode map, JsonNode of)
        {
            of = Resolved(of);
            if (of["properties"] is not JsonObject properties)
                return; // an object of whatever a pod takes
            Assert.Equal(
                properties.Select(p => p.Key).Where(k => path.Length > 0 || k != "global").Select(k => $"{path}.{k}").Order(),
                map.Children.Keys.Select(k => $"{path}.{k}").Order()
            );
            Assert.Equal(JsonValueKind.False, of["additionalProperties"]!.GetValueKind());
            foreach ((YamlNode key, YamlNode value) in map.Children)
            {
                if (value is YamlMappingNode inner)
                    Compare($"{path}.{key}", inner, properties[key.ToString()]!);
            }
        }

        JsonNode Resolved(JsonNode node) =>
            node["$ref"] is { } named ? schema["definitions"]![named.GetValue<string>()["#/definitions/".Length..]]! : node;
    }

    private static async Task<IReadOnlyList<YamlMappingNode>> KustomizeAsync(string folder)
    {
        (int code, string text) = await Kubectl.TryAsync("{}", null, "kustomize", Path.Combine(Kubectl.Repository, folder));
        return code == 0 ? Helm.Read(text) : throw new InvalidOperationException(text);
    }

    /// <summary>Objects by kind, namespace and name, as JSON in one order, without the labels and annotations that a tool's own are.</summary>
    private static Dictionary<string, string> Bare(IEnumerable<YamlMappingNode> objects) =>
        objects.ToDictionary(
            Name,
            o =>
            {
                var metadata = (YamlMappingNode)o["metadata"];
                if (metadata.Children.TryGetValue("labels", out YamlNode? labels))
                {
                    var map = (YamlMappingNode)labels;
                    string[] tools =
                    [
                        "app.kubernetes.io/name",
                        "app.kubernetes.io/part-of",
                        "app.kubernetes.io/version",
                        "app.kubernetes.io/managed-by",
                        "helm.sh/chart",
                    ];
                    foreach (string tool in tools)
                        map.Children.Remove(tool);
                    if (map.Children.Count == 0)
                        metadata.Children.Remove("labels");
                }

                if (metadata.Children.TryGetValue("annotations", out YamlNode? annotations))
                {
                    ((YamlMappingNode)annotations).Children.Remove("helm.sh/resource-policy");
                    if (((YamlMappingNode)annotations).Children.Count == 0)
                        metadata.Children.Remove("annotations");
                }

                return Canonical(o);
            }
        );

    private static string Canonical(YamlNode node) =>
        node switch
        {
            YamlMappingNode map =>
                $"{{{string.Join(",\n", map.Children.Select(c => $"{c.Key}: {Canonical(c.Value)}").Order(StringComparer.Ordinal))}}}",
            YamlSequenceNode list => $"[{string.Join(",\n", list.Select(Canonical))}]",
            // What one writes folded the other writes in one line.
            YamlScalarNode scalar => (scalar.Value ?? "").Trim(),
            _ => throw new InvalidOperationException($"{node.NodeType} in an object"),
        };

    private static string Name(YamlMappingNode o) => $"{Text(o, "kind")} {Text(o, "metadata", "namespace")}/{Text(o, "metadata", "name")}";

    private static string? Text(YamlNode node, params string[] path)
    {
        YamlNode? at = path.Aggregate(
            (YamlNode?)node,
            (n, key) => n is YamlMappingNode map && map.Children.TryGetValue(key, out YamlNode? child) ? child : null
        );
        return (at as YamlScalarNode)?.Value;
    }
}
