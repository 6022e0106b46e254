using System.Net.Http.Headers;
using k8s;
using PciOperator.Kubernetes;

namespace PciOperator.Sandbox.Tests.ApiServer;

/// <summary>Plain HTTP to an API server, for what a client library would hide.</summary>
internal static class RawClient
{
    public static HttpClient Of(string kubeconfig)
    {
        KubernetesClientConfiguration configuration = ClusterAccess.FromKubeconfigText(kubeconfig);
        var client = new HttpClient(new SocketsHttpHandler { SslOptions = ClusterAccess.TlsOptions(configuration) })
        {
            BaseAddress = new Uri(configuration.Host),
        };
        string? token = kubeconfig
            .Split('\n')
            .Select(l => l.Trim())
            .FirstOrDefault(l => l.StartsWith("token: ", StringComparison.Ordinal))
            ?["token: ".Length..];
        if (token is not null)
            client.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", token);
        client.DefaultRequestHeaders.UserAgent.ParseAdd("difftest/1");
        return client;
    }
}
