using System.Text.Json.Nodes;
using YamlDotNet.RepresentationModel;

namespace PciOperator.Images.Tests;

/// <summary>What the kubelet knows of a pod when it starts its container: the downward API's values, and where the node's files are.</summary>
/// <param name="Name">The pod's name.</param>
/// <param name="Namespace">The pod's namespace.</param>
/// <param name="Uid">The pod's UID.</param>
/// <param name="Node">The node's name.</param>
/// <param name="HostRoot">The folder that stands in for the node's root: hostPath volumes are below it.</param>
/// <param name="ServiceAccount">The folder with token, ca.crt and namespace.</param>
/// <param name="ApiServer">The API server's address.</param>
internal sealed record PodFacts(
    string Name,
    string Namespace,
    string Uid,
    string Node,
    string HostRoot,
    string ServiceAccount,
    Uri ApiServer
);

/// <summary>
/// A workload's pod template as a container that runc starts: the kubelet's and the container runtime's part, as far as our manifests go. A field of
/// a security context that it doesn't know is an error, so that none is passed over.
/// </summary>
internal static class Pod
{
    /// <summary>The capabilities of a container that says nothing (containerd's default).</summary>
    private static readonly string[] Usual =
    [
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FSETID",
        "CAP_FOWNER",
        "CAP_MKNOD",
        "CAP_NET_RAW",
        "CAP_SETGID",
        "CAP_SETUID",
        "CAP_SETFCAP",
        "CAP_SETPCAP",
        "CAP_NET_BIND_SERVICE",
        "CAP_SYS_CHROOT",
        "CAP_KILL",
        "CAP_AUDIT_WRITE",
    ];

    /// <summary>The OCI runtime configuration (https://github.com/opencontainers/runtime-spec) of the template's one container.</summary>
    /// <param name="template">spec.template of a Deployment, DaemonSet or Job.</param>
    /// <param name="image">The image's own configuration: user, entry point, environment.</param>
    /// <param name="rootfs">The image's files.</param>
    /// <param name="facts">What the template's fields refer to.</param>
    public static JsonObject Configuration(YamlMappingNode template, ImageConfiguration image, string rootfs, PodFacts facts)
    {
        YamlMappingNode pod = Map(template, "spec")!;
        var container = (YamlMappingNode)((YamlSequenceNode)pod["containers"]).Single();
        YamlMappingNode ofPod = Map(pod, "securityContext") ?? [],
            ofContainer = Map(container, "securityContext") ?? [];
        Known(ofPod, "runAsNonRoot", "runAsUser", "seccompProfile");
        Known(ofContainer, "allowPrivilegeEscalation", "readOnlyRootFilesystem", "capabilities", "privileged");
        Known(
            pod,
            "serviceAccountName",
            "priorityClassName",
            "nodeSelector",
            "affinity",
            "tolerations",
            "securityContext",
            "containers",
            "volumes",
            "hostNetwork",
            "hostPID",
            "dnsPolicy",
            "terminationGracePeriodSeconds",
            "restartPolicy",
            "imagePullSecrets"
        );

        bool privileged = Text(ofContainer, "privileged") == "true";
        int user = int.Parse(Text(ofPod, "runAsUser") ?? image.User);
        if (Text(ofPod, "runAsNonRoot") == "true" && user == 0)
            throw new InvalidOperationException("container has runAsNonRoot and image will run as root");
        string[] capabilities = privileged ? All() : [.. Usual.Where(c => !Drops(ofContainer, c))];
        Dictionary<string, string> environment = Environment(container, facts);
        var process = new JsonObject
        {
            ["user"] = new JsonObject { ["uid"] = user, ["gid"] = 0 },
            ["args"] = Array([.. image.Entrypoint, .. Strings(container, "args").Select(a => Expanded(a, environment))]),
            ["env"] = Array([.. image.Environment, .. environment.Select(e => $"{e.Key}={e.Value}")]),
            ["cwd"] = "/",
            ["noNewPrivileges"] = Text(ofContainer, "allowPrivilegeEscalation") == "false",
            ["capabilities"] = new JsonObject
            {
                ["bounding"] = Array(capabilities),
                // A process that isn't root has none until a file gives it some.
                ["effective"] = Array(user == 0 ? capabilities : []),
                ["permitted"] = Array(user == 0 ? capabilities : []),
            },
        };
        var namespaces = new JsonArray(Namespace("mount"), Namespace("ipc"), Namespace("uts"));
        if (Text(pod, "hostPID") != "true")
            namespaces.Add(Namespace("pid"));
        // The pod's network would be the container network's; here the API server is on the machine's loopback.
        var linux = new JsonObject { ["namespaces"] = namespaces, ["resources"] = new JsonObject() };
        if (privileged)
            linux["resources"]!["devices"] = new JsonArray(new JsonObject { ["allow"] = true, ["access"] = "rwm" });
        if (!privileged)
        {
            linux["maskedPaths"] = Array(["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware", "/proc/scsi"]);
            linux["readonlyPaths"] = Array(["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]);
            if (Text(Map(ofPod, "seccompProfile") ?? [], "type") == "RuntimeDefault")
                linux["seccomp"] = Seccomp.Default(capabilities);
        }

        return new JsonObject
        {
            ["ociVersion"] = "1.0.2",
            ["process"] = process,
            ["root"] = new JsonObject { ["path"] = rootfs, ["readonly"] = Text(ofContainer, "readOnlyRootFilesystem") == "true" },
            ["hostname"] = facts.Name,
            ["mounts"] = new JsonArray([.. Mounts(pod, container, facts, privileged)]),
            ["linux"] = linux,
        };
    }

    /// <summary>A probe's port and path.</summary>
    public static (int Port, string Path) Probe(YamlMappingNode template, string probe)
    {
        var container = (YamlMappingNode)((YamlSequenceNode)Map(template, "spec")!["containers"]).Single();
        YamlMappingNode get = Map(Map(container, probe)!, "httpGet")!;
        string port = Text(get, "port")!;
        string number =
            ((YamlSequenceNode)container["ports"])
                .Cast<YamlMappingNode>()
                .Where(p => Text(p, "name") == port)
                .Select(p => Text(p, "containerPort"))
                .SingleOrDefault()
            ?? port;
        return (int.Parse(number), Text(get, "path")!);
    }

    public static YamlMappingNode? Map(YamlMappingNode node, string key) =>
        node.Children.TryGetValue(key, out YamlNode? child) ? (YamlMappingNode)child : null;

    public static string? Text(YamlMappingNode node, string key) =>
        node.Children.TryGetValue(key, out YamlNode? child) ? ((YamlScalarNode)child).Value : null;

    private static IEnumerable<JsonNode> Mounts(YamlMappingNode pod, YamlMappingNode container, PodFacts facts, bool privileged)
    {
        yield return Mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev");
        yield return Mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k");
        yield return Mount("/dev/shm", "shm", "tmpfs", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k");
        yield return Mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", privileged ? "rw" : "ro");
        var volumes = Maps(pod, "volumes")
            .ToDictionary(
                v => Text(v, "name")!,
                v => Map(v, "hostPath") ?? throw new InvalidOperationException("a volume that is no hostPath")
            );
        foreach (YamlMappingNode mount in Maps(container, "volumeMounts"))
        {
            YamlMappingNode volume = volumes[Text(mount, "name")!];
            string source = facts.HostRoot + Text(volume, "path");
            if (Text(volume, "type") == "DirectoryOrCreate")
                Directory.CreateDirectory(source);
            else if (!Directory.Exists(source))
                throw new DirectoryNotFoundException($"hostPath type check failed: {source} is not a directory");
            yield return Mount(Text(mount, "mountPath")!, source, "bind", "rbind", Text(mount, "readOnly") == "true" ? "ro" : "rw");
        }

        yield return Mount("/var/run/secrets/kubernetes.io/serviceaccount", facts.ServiceAccount, "bind", "rbind", "ro");
    }

    private static Dictionary<string, string> Environment(YamlMappingNode container, PodFacts facts)
    {
        var environment = new Dictionary<string, string>
        {
            ["KUBERNETES_SERVICE_HOST"] = facts.ApiServer.Host,
            ["KUBERNETES_SERVICE_PORT"] = $"{facts.ApiServer.Port}",
        };
        foreach (YamlMappingNode variable in Maps(container, "env"))
        {
            environment[Text(variable, "name")!] =
                Text(variable, "value")
                ?? Text(Map(Map(variable, "valueFrom")!, "fieldRef")!, "fieldPath") switch
                {
                    "metadata.name" => facts.Name,
                    "metadata.namespace" => facts.Namespace,
                    "metadata.uid" => facts.Uid,
                    "spec.nodeName" => facts.Node,
                    var field => throw new InvalidOperationException($"a fieldRef to {field}"),
                };
        }

        return environment;
    }

    private static string Expanded(string argument, Dictionary<string, string> environment) =>
        environment.Aggregate(argument, (text, e) => text.Replace($"$({e.Key})", e.Value, StringComparison.Ordinal));

    private static bool Drops(YamlMappingNode context, string capability) =>
        Map(context, "capabilities") is { } own && Strings(own, "drop").Any(d => d == "ALL" || "CAP_" + d == capability);

    /// <summary>All that the tests have themselves, which a privileged container gets: on a node, all that the kernel knows.</summary>
    private static string[] All()
    {
        ulong own = Convert.ToUInt64(
            File.ReadLines("/proc/self/status").Single(l => l.StartsWith("CapBnd:", StringComparison.Ordinal))["CapBnd:".Length..].Trim(),
            16
        );
        string[] byNumber =
        [
            "CAP_CHOWN",
            "CAP_DAC_OVERRIDE",
            "CAP_DAC_READ_SEARCH",
            "CAP_FOWNER",
            "CAP_FSETID",
            "CAP_KILL",
            "CAP_SETGID",
            "CAP_SETUID",
            "CAP_SETPCAP",
            "CAP_LINUX_IMMUTABLE",
            "CAP_NET_BIND_SERVICE",
            "CAP_NET_BROADCAST",
            "CAP_NET_ADMIN",
            "CAP_NET_RAW",
            "CAP_IPC_LOCK",
            "CAP_IPC_OWNER",
            "CAP_SYS_MODULE",
            "CAP_SYS_RAWIO",
            "CAP_SYS_CHROOT",
            "CAP_SYS_PTRACE",
            "CAP_SYS_PACCT",
            "CAP_SYS_ADMIN",
            "CAP_SYS_BOOT",
            "CAP_SYS_NICE",
            "CAP_SYS_RESOURCE",
            "CAP_SYS_TIME",
            "CAP_SYS_TTY_CONFIG",
            "CAP_MKNOD",
            "CAP_LEASE",
            "CAP_AUDIT_WRITE",
            "CAP_AUDIT_CONTROL",
            "CAP_SETFCAP",
            "CAP_MAC_OVERRIDE",
            "CAP_MAC_ADMIN",
            "CAP_SYSLOG",
            "CAP_WAKE_ALARM",
            "CAP_BLOCK_SUSPEND",
            "CAP_AUDIT_READ",
            "CAP_PERFMON",
            "CAP_BPF",
            "CAP_CHECKPOINT_RESTORE",
        ];
        return [.. byNumber.Where((_, number) => (own >> number & 1) != 0)];
    }

    private static void Known(YamlMappingNode node, params string[] fields)
    {
        string[] others = [.. node.Children.Keys.Select(k => k.ToString()).Except(fields)];
        if (others.Length > 0)
            throw new InvalidOperationException($"the test doesn't know what {string.Join(", ", others)} of a pod do");
    }

    private static IEnumerable<YamlMappingNode> Maps(YamlMappingNode node, string key) =>
        node.Children.TryGetValue(key, out YamlNode? child) ? ((YamlSequenceNode)child).Cast<YamlMappingNode>() : [];

    private static IEnumerable<string> Strings(YamlMappingNode node, string key) =>
        node.Children.TryGetValue(key, out YamlNode? child) ? ((YamlSequenceNode)child).Select(n => ((YamlScalarNode)n).Value!) : [];

    private static JsonObject Mount(string destination, string source, string type, params string[] options) =>
        new()
        {
            ["destination"] = destination,
            ["source"] = source,
            ["type"] = type,
            ["options"] = Array(options),
        };

    private static JsonObject Namespace(string type) => new() { ["type"] = type };

    internal static JsonArray Array(IEnumerable<string> strings) => new([.. strings.Select(s => (JsonNode)s)]);
}
