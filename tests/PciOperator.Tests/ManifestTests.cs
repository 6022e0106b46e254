using PciOperator.Sandbox.Cluster;
using PciOperator.Testing;
using YamlDotNet.RepresentationModel;

namespace PciOperator.Tests;

/// <summary>What <c>config/program</c> puts into a cluster, read as text.</summary>
public sealed class ManifestTests
{
    private static readonly IReadOnlyList<YamlMappingNode> Objects = Read();

    [Fact]
    public void The_controllers_pod_fits_pod_securitys_restricted_and_its_namespace_lets_nothing_else_in()
    {
        YamlMappingNode deployment = One("Deployment", "pcioperator-controller");
        Assert.Equal(SandboxCluster.ControllerNamespace, Text(deployment, "metadata", "namespace"));
        Assert.All(["enforce", "warn", "audit"], mode => Assert.Equal("restricted", PodSecurity(SandboxCluster.ControllerNamespace, mode)));

        // https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
        var pod = (YamlMappingNode)At(deployment, "spec", "template", "spec")!;
        Assert.Equal("true", Text(pod, "securityContext", "runAsNonRoot"));
        Assert.Equal("RuntimeDefault", Text(pod, "securityContext", "seccompProfile", "type"));
        Assert.All(["hostNetwork", "hostPID", "hostIPC", "volumes", "initContainers"], field => Assert.Null(At(pod, field)));
        Assert.All(
            (YamlSequenceNode)At(pod, "containers")!,
            container =>
            {
                Assert.Equal("false", Text(container, "securityContext", "allowPrivilegeEscalation"));
                Assert.Equal("true", Text(container, "securityContext", "readOnlyRootFilesystem"));
                Assert.Equal(
                    ["ALL"],
                    ((YamlSequenceNode)At(container, "securityContext", "capabilities", "drop")!).Select(c => c.ToString())
                );
                Assert.Null(At(container, "securityContext", "capabilities", "add"));
                Assert.Null(At(container, "securityContext", "privileged"));
                Assert.All((YamlSequenceNode)At(container, "ports")!, port => Assert.Null(At(port, "hostPort")));
            }
        );
    }

    [Fact]
    public void The_agents_namespace_is_privileged_without_a_warning()
    {
        Assert.Equal(SandboxCluster.Namespace, Text(One("DaemonSet", "pcioperator-agent"), "metadata", "namespace"));
        Assert.All(["enforce", "warn", "audit"], mode => Assert.Equal("privileged", PodSecurity(SandboxCluster.Namespace, mode)));
    }

    [Fact]
    public void Both_programs_are_told_of_one_installation()
    {
        IEnumerable<string> controller = Arguments(One("Deployment", "pcioperator-controller"));
        IEnumerable<string> agent = Arguments(One("DaemonSet", "pcioperator-agent"));
        Assert.Contains("--namespace=$(POD_NAMESPACE)", controller);
        Assert.Contains($"--agent-namespace={SandboxCluster.Namespace}", controller);
        Assert.Contains("--namespace=$(POD_NAMESPACE)", agent);
        Assert.Contains($"--installation={Api.Installation.Default.Controller}", agent);
    }

    [Fact]
    public void Policies_and_bindings_name_service_accounts_that_there_are()
    {
        var accounts = Objects
            .Where(o => Text(o, "kind") == "ServiceAccount")
            .Select(o => $"{Text(o, "metadata", "namespace")}:{Text(o, "metadata", "name")}")
            .ToHashSet();
        Assert.Equal(2, accounts.Count);
        var bound = Objects
            .Where(o => Text(o, "kind") is "ClusterRoleBinding" or "RoleBinding")
            .SelectMany(o => (YamlSequenceNode)At(o, "subjects")!)
            .Select(s => $"{Text(s, "namespace")}:{Text(s, "name")}")
            .ToList();
        Assert.Equal(3, bound.Count);
        Assert.All(bound, b => Assert.Contains(b, accounts));

        var named = Directory
            .GetFiles(Path.Combine(Kubectl.Repository, "config", "program"), "*policies.yaml")
            .SelectMany(file => File.ReadAllText(file).Split("'system:serviceaccount:").Skip(1))
            .Select(rest => rest[..rest.IndexOf('\'', StringComparison.Ordinal)])
            .Where(account => !account.StartsWith("kube-system:", StringComparison.Ordinal))
            .ToHashSet();
        Assert.Equal(accounts, named);
    }

    [Fact]
    public void Every_object_that_has_a_namespace_says_which()
    {
        string[] cluster =
        [
            "Namespace",
            "ClusterRole",
            "ClusterRoleBinding",
            "ValidatingAdmissionPolicy",
            "ValidatingAdmissionPolicyBinding",
            "DeviceClass",
            "Kustomization",
        ];
        Assert.All(Objects, o => Assert.Equal(cluster.Contains(Text(o, "kind")), Text(o, "metadata", "namespace") is null));
    }

    [Fact]
    public void A_host_without_lib_modules_has_an_agent_all_the_same()
    {
        var volumes = (YamlSequenceNode)At(One("DaemonSet", "pcioperator-agent"), "spec", "template", "spec", "volumes")!;
        YamlNode modules = volumes.Single(v => Text(v, "name") == "modules");
        // Directory would keep the pod from starting (https://kubernetes.io/docs/concepts/storage/volumes/#hostpath-volume-types).
        Assert.Equal("DirectoryOrCreate", Text(modules, "hostPath", "type"));
    }

    private static string? PodSecurity(string ns, string mode) =>
        Text(One("Namespace", ns), "metadata", "labels", "pod-security.kubernetes.io/" + mode);

    private static IEnumerable<string> Arguments(YamlNode workload) =>
        ((YamlSequenceNode)At(((YamlSequenceNode)At(workload, "spec", "template", "spec", "containers")!)[0], "args")!).Select(a =>
            a.ToString()
        );

    private static YamlMappingNode One(string kind, string name) =>
        Objects.Single(o => Text(o, "kind") == kind && Text(o, "metadata", "name") == name);

    private static string? Text(YamlNode node, params string[] path) => (At(node, path) as YamlScalarNode)?.Value;

    private static YamlNode? At(YamlNode node, params string[] path) =>
        path.Aggregate(
            (YamlNode?)node,
            (at, key) => at is YamlMappingNode map && map.Children.TryGetValue(key, out YamlNode? child) ? child : null
        );

    private static List<YamlMappingNode> Read() =>
        [
            .. Directory
                .GetFiles(Path.Combine(Kubectl.Repository, "config", "program"), "*.yaml")
                .SelectMany(file =>
                {
                    var yaml = new YamlStream();
                    yaml.Load(new StringReader(File.ReadAllText(file)));
                    return yaml.Documents.Select(d => (YamlMappingNode)d.RootNode);
                }),
        ];
}
