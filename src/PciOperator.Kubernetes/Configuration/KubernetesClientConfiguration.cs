using System.Security.Cryptography.X509Certificates;

namespace PciOperator.Kubernetes;

/// <summary>Which API server to talk to, how to know it, and how to be known by it.</summary>
public sealed record KubernetesClientConfiguration
{
    /// <summary>Address, <c>https</c> or <c>http</c>; a path in it stands before every call's own.</summary>
    public required Uri Server { get; init; }

    /// <summary>Namespace of the kubeconfig's context or of the pod.</summary>
    public string Namespace { get; init; } = "default";

    /// <summary>Who may have signed the server's certificate; null: the system's authorities.</summary>
    public X509Certificate2Collection? CertificateAuthorities { get; init; }

    /// <summary>Client certificate with its key; the intermediates are in <see cref="ClientCertificateChain"/>.</summary>
    public X509Certificate2? ClientCertificate { get; init; }

    /// <summary>Intermediate certificates to send along with <see cref="ClientCertificate"/>.</summary>
    public X509Certificate2Collection? ClientCertificateChain { get; init; }

    /// <summary>Where tokens (or certificates of an exec plugin) come from; null: none.</summary>
    public CredentialSource? Credentials { get; init; }

    /// <summary>Accept any server certificate.</summary>
    public bool SkipTlsVerify { get; init; }

    /// <summary>The name that the server's certificate must have, when it is not the host of <see cref="Server"/>.</summary>
    public string? TlsServerName { get; init; }

    /// <summary>From a kubeconfig.</summary>
    /// <param name="path">A file, or several joined by <c>:</c>; null: <c>$KUBECONFIG</c>, else <c>~/.kube/config</c>.</param>
    /// <param name="context">Context; null: the current one.</param>
    /// <exception cref="KubeconfigException">No file, or something in it is missing or malformed; the message says what.</exception>
    public static KubernetesClientConfiguration FromKubeconfig(string? path = null, string? context = null) =>
        Kubeconfig.Load(path ?? DefaultKubeconfigPath()).Resolve(context);

    /// <summary>From a kubeconfig's text; relative paths in it are relative to the working folder.</summary>
    /// <exception cref="KubeconfigException">Something in it is missing or malformed; the message says what.</exception>
    public static KubernetesClientConfiguration FromKubeconfigText(string text, string? context = null) =>
        Kubeconfig.Parse(text, Environment.CurrentDirectory, "kubeconfig").Resolve(context);

    /// <summary>From a pod's service account: <c>KUBERNETES_SERVICE_HOST</c> and <c>_PORT</c>, and the projected token, CA and
    /// namespace; the token is read again as the kubelet renews it.</summary>
    /// <param name="folder">Where the service account is mounted.</param>
    /// <exception cref="KubeconfigException">Not in a pod, or it has no service account mounted.</exception>
    public static KubernetesClientConfiguration InCluster(string folder = "/var/run/secrets/kubernetes.io/serviceaccount")
    {
        var host = Environment.GetEnvironmentVariable("KUBERNETES_SERVICE_HOST");
        var port = Environment.GetEnvironmentVariable("KUBERNETES_SERVICE_PORT");
        if (string.IsNullOrEmpty(host) || string.IsNullOrEmpty(port))
            throw new KubeconfigException("Not in a pod: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set.");
        return InCluster(folder, host, port);
    }

    internal static KubernetesClientConfiguration InCluster(string folder, string host, string port)
    {
        var token = Path.Combine(folder, "token");
        var ca = Path.Combine(folder, "ca.crt");
        var ns = Path.Combine(folder, "namespace");
        foreach (var file in (string[])[token, ca])
        {
            if (!File.Exists(file))
                throw new KubeconfigException($"{file} is not there: the pod needs a service account with automountServiceAccountToken.");
        }

        var authority = host.Contains(':', StringComparison.Ordinal) ? $"[{host}]" : host;
        return new KubernetesClientConfiguration
        {
            Server = new Uri($"https://{authority}:{port}"),
            CertificateAuthorities = Kubeconfig.ReadCertificates(File.ReadAllText(ca), ca),
            Credentials = CredentialSource.FromFile(token),
            Namespace = File.Exists(ns) ? File.ReadAllText(ns).Trim() : "default",
        };
    }

    /// <summary>As kubectl chooses: <c>$KUBECONFIG</c>, else <c>~/.kube/config</c> when it is there, else the pod's service account.</summary>
    /// <exception cref="KubeconfigException">None of them.</exception>
    public static KubernetesClientConfiguration Default()
    {
        if (!string.IsNullOrEmpty(Environment.GetEnvironmentVariable("KUBECONFIG")) || File.Exists(DefaultKubeconfigPath()))
            return FromKubeconfig();
        if (!string.IsNullOrEmpty(Environment.GetEnvironmentVariable("KUBERNETES_SERVICE_HOST")))
            return InCluster();
        throw new KubeconfigException($"No cluster to talk to: KUBECONFIG is not set, {DefaultKubeconfigPath()} is not there, and this is not a pod.");
    }

    private static string DefaultKubeconfigPath() =>
        Environment.GetEnvironmentVariable("KUBECONFIG") is { Length: > 0 } path
            ? path
            : Path.Combine(Environment.GetEnvironmentVariable("HOME") ?? "/root", ".kube", "config");
}

/// <summary>A kubeconfig or a pod's service account can't be used; the message says what is wrong and where.</summary>
public sealed class KubeconfigException(string message, Exception? inner = null) : Exception(message, inner);
