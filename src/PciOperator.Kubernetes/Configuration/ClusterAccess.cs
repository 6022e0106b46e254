using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using k8s;
using k8s.Exceptions;

namespace PciOperator.Kubernetes;

/// <summary>
/// Which API server to talk to, how to know it, and how to be known by it: the library's configuration, of a kubeconfig or a pod's service
/// account, with credentials that are renewed after a 401.
/// </summary>
public static class ClusterAccess
{
    private const string ServiceAccountFolder = "/var/run/secrets/kubernetes.io/serviceaccount";

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

    /// <summary>From a pod's service account; its token is read again as the kubelet renews it.</summary>
    /// <exception cref="KubeconfigException">Not in a pod, or it has no service account mounted.</exception>
    public static KubernetesClientConfiguration InCluster() => InCluster(Path.Combine(ServiceAccountFolder, "token"));

    internal static KubernetesClientConfiguration InCluster(string tokenFile)
    {
        try
        {
            var configuration = KubernetesClientConfiguration.InClusterConfig();
            configuration.Namespace = configuration.Namespace?.Trim() is { Length: > 0 } ns ? ns : "default";
            // The library's reads the file once a minute only, also after a 401.
            configuration.TokenProvider = new TokenFile(tokenFile);
            return configuration;
        }
        catch (Exception e)
            when (e is KubeConfigException or IOException or UnauthorizedAccessException or CryptographicException or FormatException)
        {
            throw new KubeconfigException($"The pod's service account can't be used: {e.Message}", e);
        }
    }

    /// <summary>
    /// As kubectl chooses: <c>$KUBECONFIG</c>, else <c>~/.kube/config</c> when it is there, else the pod's service account.
    /// </summary>
    /// <exception cref="KubeconfigException">None of them.</exception>
    public static KubernetesClientConfiguration Default()
    {
        if (!string.IsNullOrEmpty(Environment.GetEnvironmentVariable("KUBECONFIG")) || File.Exists(DefaultKubeconfigPath()))
            return FromKubeconfig();
        if (!string.IsNullOrEmpty(Environment.GetEnvironmentVariable("KUBERNETES_SERVICE_HOST")))
            return InCluster();
        throw new KubeconfigException(
            $"No cluster to talk to: KUBECONFIG is not set, {DefaultKubeconfigPath()} is not there, and this is not a pod."
        );
    }

    /// <summary>
    /// How a server is known, and what it knows this client by: its certificate's chain and name are checked, unless the configuration says
    /// otherwise.
    /// </summary>
    public static SslClientAuthenticationOptions TlsOptions(KubernetesClientConfiguration configuration)
    {
        ArgumentNullException.ThrowIfNull(configuration);
        var tls = new SslClientAuthenticationOptions();
        if (configuration.SkipTlsVerify)
        {
#pragma warning disable CA5359 // insecure-skip-tls-verify is the user's own choice
            tls.RemoteCertificateValidationCallback = static (_, _, _, _) => true;
#pragma warning restore CA5359
        }
        else if (configuration.SslCaCerts is { } authorities)
        {
            // The library checks the chain by a callback of its own, which then does not look at the name. With a policy .NET checks both.
            tls.CertificateChainPolicy = new X509ChainPolicy
            {
                TrustMode = X509ChainTrustMode.CustomRootTrust,
                RevocationMode = X509RevocationMode.NoCheck,
            };
            tls.CertificateChainPolicy.CustomTrustStore.AddRange(authorities);
        }

        if (configuration is { ClientCertificateData.Length: > 0, ClientCertificateKeyData.Length: > 0 })
        {
            (X509Certificate2? certificate, X509Certificate2Collection? chain) = Pem.ReadCertificateWithKey(
                Text(configuration.ClientCertificateData),
                Text(configuration.ClientCertificateKeyData),
                "The client's certificate"
            );
            tls.ClientCertificateContext = SslStreamCertificateContext.Create(certificate, chain, offline: true);
        }
        else if (configuration.TokenProvider is ExecCredentials plugin)
        {
            tls.LocalCertificateSelectionCallback = (_, _, _, _, _) => plugin.ClientCertificate!;
        }

        return tls;

        static string Text(string base64) => Encoding.UTF8.GetString(Convert.FromBase64String(base64));
    }

    private static string DefaultKubeconfigPath() =>
        Environment.GetEnvironmentVariable("KUBECONFIG") is { Length: > 0 } path
            ? path
            : Path.Combine(Environment.GetEnvironmentVariable("HOME") ?? "/root", ".kube", "config");
}

/// <summary>A kubeconfig or a pod's service account can't be used; the message says what is wrong and where.</summary>
public sealed class KubeconfigException(string message, Exception? inner = null) : Exception(message, inner);

/// <summary>PEM, with errors that say where it came from.</summary>
internal static class Pem
{
    public static X509Certificate2Collection ReadCertificates(string pem, string source)
    {
        var certificates = new X509Certificate2Collection();
        try
        {
            certificates.ImportFromPem(pem);
        }
        catch (CryptographicException e)
        {
            throw new KubeconfigException($"{source} is not a PEM certificate: {e.Message}", e);
        }

        return certificates.Count > 0 ? certificates : throw new KubeconfigException($"{source} has no PEM certificate in it.");
    }

    /// <summary>A client's certificate and the intermediates that follow it.</summary>
    public static (X509Certificate2 Leaf, X509Certificate2Collection? Chain) ReadCertificateWithKey(
        string certificate,
        string key,
        string source
    )
    {
        X509Certificate2Collection all = ReadCertificates(certificate, source);
        try
        {
            var leaf = X509Certificate2.CreateFromPem(certificate, key);
            all.RemoveAt(0);
            return (leaf, all.Count > 0 ? all : null);
        }
        catch (Exception e) when (e is CryptographicException or ArgumentException)
        {
            throw new KubeconfigException($"{source} and its key do not go together: {e.Message}", e);
        }
    }
}
