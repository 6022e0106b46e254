using System.Net.Http.Headers;
using System.Text;
using System.Text.Json.Nodes;
using k8s;
using k8s.Authentication;
using k8s.Models;
using PciOperator.Sandbox.Cluster;
using PciOperator.Testing;

namespace PciOperator.Tests;

/// <summary>Access as a service account, as a pod has it.</summary>
internal static class ServiceAccounts
{
    /// <summary>The server's configuration with the account's token in place of the administrator's credentials.</summary>
    /// <param name="server">The server.</param>
    /// <param name="name">The account's name.</param>
    /// <param name="node">The node that the token names, as a pod's does; null: none. It has to exist when the token is used first.</param>
    /// <param name="ns">The account's namespace; null: where config/ has it.</param>
    public static KubernetesClientConfiguration Access(TestApiServer server, string name, string? node = null, string? ns = null)
    {
        ns ??= name == "pcioperator-controller" ? SandboxCluster.ControllerNamespace : SandboxCluster.Namespace;
        // The test server takes the name for a token; others are asked for one.
        ITokenProvider credentials = server.IsTestBinary
            ? new StringTokenProvider($"system:serviceaccount:{ns}:{name}{(node is null ? "" : "@" + node)}", "Bearer")
            : new RequestedToken(server, ns, name, node);
        KubernetesClientConfiguration admin = server.Configuration;
        return new KubernetesClientConfiguration
        {
            Host = admin.Host,
            SslCaCerts = admin.SslCaCerts,
            SkipTlsVerify = admin.SkipTlsVerify,
            TlsServerName = admin.TlsServerName,
            TokenProvider = credentials,
        };
    }

    /// <summary>A token that is asked for when it is needed first, bound to the Node if there is one (KEP-4193).</summary>
    private sealed class RequestedToken(TestApiServer server, string ns, string name, string? node) : ITokenProvider
    {
        private AuthenticationHeaderValue? _header;

        public async Task<AuthenticationHeaderValue> GetAuthenticationHeaderAsync(CancellationToken cancellationToken)
        {
            if (_header is not null)
                return _header;
            using Kubernetes.EntityClient client = server.Client();
            var spec = new JsonObject { ["expirationSeconds"] = 3600 };
            if (node is not null)
            {
                string? uid = (await client.GetAsync<V1Node>(node, ct: cancellationToken))?.Metadata.Uid;
                spec["boundObjectRef"] = new JsonObject
                {
                    ["apiVersion"] = "v1",
                    ["kind"] = "Node",
                    ["name"] = node,
                    ["uid"] = uid,
                };
            }

            var request = new JsonObject
            {
                ["apiVersion"] = "authentication.k8s.io/v1",
                ["kind"] = "TokenRequest",
                ["spec"] = spec,
            };
            using System.Text.Json.JsonDocument answer = await client.SendRawAsync(
                HttpMethod.Post,
                $"/api/v1/namespaces/{ns}/serviceaccounts/{name}/token",
                Encoding.UTF8.GetBytes(request.ToJsonString()),
                ct: cancellationToken
            );
            return _header = new AuthenticationHeaderValue(
                "Bearer",
                answer.RootElement.GetProperty("status").GetProperty("token").GetString()!
            );
        }
    }
}
