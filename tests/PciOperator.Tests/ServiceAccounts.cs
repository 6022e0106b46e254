using System.Text;
using PciOperator.Kubernetes;
using PciOperator.Sandbox.Cluster;
using PciOperator.Testing;

namespace PciOperator.Tests;

/// <summary>Access as a service account, as a pod has it.</summary>
internal static class ServiceAccounts
{
    /// <summary>The server's configuration with the account's token in place of the administrator's credentials.</summary>
    public static async Task<KubernetesClientConfiguration> AccessAsync(TestApiServer server, string name)
    {
        // The test server takes the name for a token; others are asked for one.
        var token = RealServer.Binary is not null ? $"system:serviceaccount:{SandboxCluster.Namespace}:{name}" : await RequestAsync(server, name);
        return server.Configuration with { ClientCertificate = null, ClientCertificateChain = null, Credentials = CredentialSource.FromToken(token) };
    }

    private static async Task<string> RequestAsync(TestApiServer server, string name)
    {
        using var client = server.Client();
        using var answer = await client.SendRawAsync(HttpMethod.Post, $"/api/v1/namespaces/{SandboxCluster.Namespace}/serviceaccounts/{name}/token",
            Encoding.UTF8.GetBytes("""{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{"expirationSeconds":3600}}"""));
        return answer.RootElement.GetProperty("status").GetProperty("token").GetString()!;
    }
}
