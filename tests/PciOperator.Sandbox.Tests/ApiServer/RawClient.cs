using System.Net.Http.Headers;
using System.Net.Security;
using System.Security.Cryptography.X509Certificates;
using PciOperator.Kubernetes;

namespace PciOperator.Sandbox.Tests.ApiServer;

/// <summary>Plain HTTP to an API server, for what a client library would hide.</summary>
internal static class RawClient
{
    public static HttpClient Of(string kubeconfig)
    {
        var configuration = KubernetesClientConfiguration.FromKubeconfigText(kubeconfig);
        var tls = new SslClientAuthenticationOptions();
        if (configuration.CertificateAuthorities is { } authorities)
        {
            tls.CertificateChainPolicy = new X509ChainPolicy { TrustMode = X509ChainTrustMode.CustomRootTrust, RevocationMode = X509RevocationMode.NoCheck };
            tls.CertificateChainPolicy.CustomTrustStore.AddRange(authorities);
        }
        if (configuration.ClientCertificate is { } certificate)
            tls.ClientCertificateContext = SslStreamCertificateContext.Create(certificate, configuration.ClientCertificateChain, offline: true);
        var client = new HttpClient(new SocketsHttpHandler { SslOptions = tls }) { BaseAddress = configuration.Server };
        var token = kubeconfig.Split('\n').Select(l => l.Trim()).FirstOrDefault(l => l.StartsWith("token: ", StringComparison.Ordinal))?["token: ".Length..];
        if (token is not null) client.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", token);
        client.DefaultRequestHeaders.UserAgent.ParseAdd("difftest/1");
        return client;
    }
}
