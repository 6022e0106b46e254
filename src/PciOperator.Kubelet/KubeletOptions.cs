namespace PciOperator.Kubelet;

/// <summary>Where the kubelet and the container runtime of a host are, and who hands out devices to them.</summary>
public sealed record KubeletOptions
{
    /// <summary>The driver's name.</summary>
    public required string Driver { get; init; }

    /// <summary>The kubelet's folder, on the host.</summary>
    public string KubeletDirectory { get; init; } = "/var/lib/kubelet";

    /// <summary>Where the container runtime looks for CDI files, on the host.</summary>
    public string CdiDirectory { get; init; } = "/var/run/cdi";

    /// <summary>The agent's own folder, on the host.</summary>
    public required string StateDirectory { get; init; }

    /// <summary>
    /// Where the host's "/" is for sockets, which can't go through <see cref="Host.IHostFileSystem"/>: "" for "/" itself.
    /// </summary>
    public string SocketRoot { get; init; } = "";

    /// <summary>
    /// The agent's pod: names its sockets, so that the next agent can register before this one has ended. Null: not in a pod.
    /// </summary>
    public string? PodUid { get; init; }

    /// <summary>How long a claim may take until the kubelet is told that it goes on; the kubelet itself gives up after 45 s.</summary>
    public TimeSpan Deadline { get; init; } = TimeSpan.FromSeconds(40);

    /// <summary>How long devices that are being bound are waited for.</summary>
    public TimeSpan Patience { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>How often it is looked whether the sockets are still there, which a person may remove.</summary>
    public TimeSpan SocketCheck { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>The plugin's own folder, on the host.</summary>
    internal string PluginDirectory => $"{KubeletDirectory.TrimEnd('/')}/plugins/{Driver}";

    /// <summary>Where the kubelet looks for plugins, on the host.</summary>
    internal string RegistryDirectory => $"{KubeletDirectory.TrimEnd('/')}/plugins_registry";

    /// <summary>The socket that the kubelet finds the plugin by, on the host.</summary>
    internal string RegistrationSocket => $"{RegistryDirectory}/{Driver}{PodPart}-reg.sock";

    /// <summary>The socket of the service, on the host.</summary>
    internal string ServiceSocket => $"{PluginDirectory}/dra{PodPart}.sock";

    private string PodPart => PodUid is { Length: > 0 } uid ? "-" + uid : "";
}
