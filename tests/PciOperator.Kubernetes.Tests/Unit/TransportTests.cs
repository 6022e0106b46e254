using System.Net;
using System.Net.Http.Headers;
using System.Net.Security;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Threading.Channels;
using k8s;
using k8s.KubeConfigModels;
using k8s.Models;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Https;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using PciOperator.Testing;
using Prometheus;

namespace PciOperator.Kubernetes.Tests.Unit;

/// <summary>Connections, credentials, retries and time limits.</summary>
public sealed class TransportTests
{
    private readonly FakeTimeProvider _time = new();
    private readonly CollectorRegistry _metrics = Metrics.NewCustomRegistry();

    private static readonly KubernetesClientConfiguration Somewhere = new() { Host = "http://server/base/path" };

    private EntityClient Client(ScriptedHandler handler, KubernetesClientConfiguration? configuration = null) =>
        new(configuration ?? Somewhere, time: _time, wrap: _ => handler, userAgent: "test/1", metrics: _metrics);

    private const string Pod =
        """{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","namespace":"ns","resourceVersion":"5","managedFields":[{"manager":"x","fieldsV1":{"f:a":{}}}]},"spec":{"nodeName":"n","containers":[{"name":"c"}]}}""";

    [Fact]
    public async Task Calls_have_their_paths_and_headers()
    {
        var handler = new ScriptedHandler();
        using EntityClient client = Client(handler);
        handler.Answer(200, Pod);
        V1Pod? pod = await client.GetAsync<V1Pod>("p", "ns");
        Assert.Equal("n", pod!.Spec!.NodeName);
        string get = await handler.NextAsync();
        Assert.Equal("GET http://server/base/path/api/v1/namespaces/ns/pods/p", get);

        handler.Answer(200, """{"metadata":{"name":"l"}}""");
        await client.UpdateStatusAsync(
            new V1Lease
            {
                Metadata = new V1ObjectMeta { Name = "l", NamespaceProperty = "ns" },
            }
        );
        Assert.Equal(
            "PUT http://server/base/path/apis/coordination.k8s.io/v1/namespaces/ns/leases/l/status?fieldManager=test",
            await handler.NextAsync()
        );
        handler.Answer(200, """{"metadata":{"resourceVersion":"1"},"items":null}""");
        EntityList<V1Pod> none = await client.ListPageAsync<V1Pod>(
            null,
            new ListOptions
            {
                LabelSelector = "a in (b, c)",
                FieldSelector = "spec.nodeName=n",
                Limit = 5,
                ResourceVersion = "0",
                ResourceVersionMatch = "NotOlderThan",
            }
        );
        Assert.Empty(none.Items);
        Assert.Equal(
            "GET http://server/base/path/api/v1/pods?labelSelector=a%20in%20%28b%2C%20c%29&fieldSelector=spec.nodeName%3Dn&limit=5&resourceVersion=0&resourceVersionMatch=NotOlderThan",
            await handler.NextAsync()
        );
        Assert.Equal("test/1", handler.UserAgent);

        await Assert.ThrowsAsync<ArgumentException>(() => client.GetAsync<V1Pod>("p"));
        await Assert.ThrowsAsync<ArgumentException>(() => client.GetAsync<V1Node>(""));
        await Assert.ThrowsAsync<ArgumentException>(() => client.CreateAsync(new V1Pod()));
    }

    [Fact]
    public async Task A_right_that_is_missing_is_said_until_it_is_there_or_nobody_asks_any_more()
    {
        const string nodes = "nodes is forbidden: User \"me\" cannot list resource \"nodes\" in API group \"\" at the cluster scope";
        var handler = new ScriptedHandler();
        var log = new RecordedLog();
        using var client = new EntityClient(Somewhere, time: _time, logger: log, wrap: _ => handler);
        await RefusedAsync(nodes, () => client.ListAsync<V1Node>());
        await RefusedAsync(nodes, () => client.ListAsync<V1Node>());
        Assert.Equal([$"A Role or ClusterRole lacks what this program needs: {nodes}"], log.Errors);
        Assert.Equal($"a Role or ClusterRole lacks what this program needs: {nodes}", client.Rights.WhyNotWell());

        // Another verb is another right, and so is another place.
        handler.Answer(200, """{"metadata":{"name":"n"}}""");
        await client.GetAsync<V1Node>("n");
        Assert.NotNull(client.Rights.WhyNotWell());
        handler.Answer(200, """{"metadata":{"resourceVersion":"1"},"items":[]}""");
        await client.ListAsync<V1Node>();
        Assert.Null(client.Rights.WhyNotWell());

        // An object that nobody asks for any more.
        const string pod = "pods \"p\" is forbidden: User \"me\" cannot delete resource \"pods\" in API group \"\" in the namespace \"ns\"";
        await RefusedAsync(pod, () => client.DeleteAsync<V1Pod>("p", "ns"));
        Assert.Contains(pod, client.Rights.WhyNotWell(), StringComparison.Ordinal);
        _time.Advance(TimeSpan.FromMinutes(5));
        Assert.Null(client.Rights.WhyNotWell());

        // Neither what a policy or a quota refuses, nor events, nor what the caller asks for without a model.
        log.Clear();
        await RefusedAsync("pods \"p\" is forbidden: exceeded quota: q", () => client.DeleteAsync<V1Pod>("p", "ns"));
        await RefusedAsync(nodes.Replace("nodes", "events"), () => client.ListAsync<Eventsv1Event>());
        await RefusedAsync(nodes, () => client.GetRawAsync("/api/v1/nodes"));
        Assert.Null(client.Rights.WhyNotWell());
        Assert.Empty(log.Errors);

        async Task RefusedAsync(string message, Func<Task> call)
        {
            var status = new JsonObject
            {
                ["kind"] = "Status",
                ["reason"] = "Forbidden",
                ["message"] = message,
            };
            handler.Answer(403, status.ToJsonString());
            await Assert.ThrowsAsync<ApiException>(call);
        }
    }

    [Fact]
    public async Task A_program_without_a_right_is_not_ready()
    {
        var handler = new ScriptedHandler();
        string kubeconfig = Path.GetTempFileName();
        bool seen = false;
        try
        {
            await File.WriteAllTextAsync(
                kubeconfig,
                """
                {apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c, user: u}}],
                 clusters: [{name: c, cluster: {server: "http://server"}}], users: [{name: u, user: {token: t}}]}
                """
            );
            var options = new ProgramHostOptions
            {
                Name = "test",
                Instance = "i",
                Kubeconfig = kubeconfig,
                HealthAddress = "127.0.0.1:0",
                LogLevel = LogLevel.None,
                Wrap = _ => handler,
            };
            await ProgramHost.RunAsync(
                options,
                async (context, ct) =>
                {
                    using var http = new HttpClient();
                    var readyz = new Uri($"http://127.0.0.1:{context.Health!.Port}/readyz");
                    Assert.Equal(HttpStatusCode.OK, (await http.GetAsync(readyz, ct)).StatusCode);
                    const string refusal = "nodes is forbidden: User 'me' cannot list resource 'nodes'";
                    handler.Answer(403, $$"""{"kind":"Status","message":"{{refusal.Replace("'", "\\\"")}}"}""");
                    await Assert.ThrowsAsync<ApiException>(() => context.Client.ListAsync<V1Node>(ct: ct));
                    HttpResponseMessage answer = await http.GetAsync(readyz, ct);
                    Assert.Equal(HttpStatusCode.ServiceUnavailable, answer.StatusCode);
                    Assert.Contains(refusal.Replace('\'', '"'), await answer.Content.ReadAsStringAsync(ct), StringComparison.Ordinal);
                    seen = true;
                }
            );
            Assert.True(seen);
        }
        finally
        {
            File.Delete(kubeconfig);
        }
    }

    [Fact]
    public async Task Too_many_requests_are_repeated_after_the_time_that_the_server_asks_for()
    {
        var handler = new ScriptedHandler();
        using EntityClient client = Client(handler);
        handler.Answer(429, "slow down", retryAfter: 3);
        handler.Answer(503, """{"kind":"Status","message":"starting","details":{"retryAfterSeconds":2}}""");
        handler.Answer(200, Pod);
        Task<V1ConfigMap> get = client.CreateAsync(
            new V1ConfigMap
            {
                Metadata = new V1ObjectMeta { Name = "m", NamespaceProperty = "ns" },
            }
        );
        foreach (int seconds in (int[])[3, 2])
        {
            await handler.NextAsync();
            await _time.WaitForTimerAsync(TimeSpan.FromSeconds(seconds));
            _time.Advance(TimeSpan.FromSeconds(seconds));
        }

        await get;
        Assert.Contains(
            "rest_client_requests_total{code=\"429\",method=\"POST\",host=\"server\"} 1\n",
            MetricsTests.Text(_metrics),
            StringComparison.Ordinal
        );

        // Not for ever.
        for (int i = 0; i < 5; i++)
            handler.Answer(429, """{"kind":"Status","reason":"TooManyRequests","message":"enough"}""", retryAfter: 1);
        Task<V1Pod?> never = client.GetAsync<V1Pod>("p", "ns");
        for (int i = 0; i < 4; i++)
        {
            await _time.WaitForTimerAsync(TimeSpan.FromSeconds(1));
            _time.Advance(TimeSpan.FromSeconds(1));
        }

        ApiException error = await Assert.ThrowsAsync<ApiException>(() => never);
        Assert.True(error.IsTooManyRequests);
        Assert.Equal(("enough", TimeSpan.FromSeconds(1)), (error.Message, error.RetryAfter));
    }

    [Fact]
    public async Task A_broken_connection_repeats_reads_but_not_writes_that_may_have_arrived()
    {
        var handler = new ScriptedHandler();
        using EntityClient client = Client(handler);
        handler.Fail(new HttpRequestException(HttpRequestError.ResponseEnded, "broken"));
        handler.Answer(200, Pod);
        Task<V1Pod?> get = client.GetAsync<V1Pod>("p", "ns");
        await _time.WaitForTimerAsync(TimeSpan.FromMilliseconds(25));
        _time.Advance(TimeSpan.FromMilliseconds(25));
        Assert.NotNull(await get);

        handler.Fail(new HttpRequestException(HttpRequestError.ResponseEnded, "broken"));
        await Assert.ThrowsAsync<HttpRequestException>(() =>
            client.CreateAsync(new V1Namespace { Metadata = new V1ObjectMeta { Name = "x" } })
        );
        // A connection that never came about has carried nothing.
        handler.Fail(new HttpRequestException(HttpRequestError.ConnectionError, "refused"));
        handler.Answer(201, """{"metadata":{"name":"x"}}""");
        Task<V1Namespace> create = client.CreateAsync(new V1Namespace { Metadata = new V1ObjectMeta { Name = "x" } });
        await _time.WaitForTimerAsync(TimeSpan.FromMilliseconds(25));
        _time.Advance(TimeSpan.FromMilliseconds(25));
        Assert.Equal("x", (await create).Metadata.Name);
        Assert.Contains(
            "rest_client_requests_total{code=\"<error>\",method=\"POST\",host=\"server\"} 2\n",
            MetricsTests.Text(_metrics),
            StringComparison.Ordinal
        );
    }

    [Fact]
    public async Task A_server_that_does_not_answer_is_given_up_in_time()
    {
        var handler = new ScriptedHandler();
        using EntityClient client = Client(handler);
        Task<V1Namespace> create = client.CreateAsync(new V1Namespace { Metadata = new V1ObjectMeta { Name = "x" } });
        await _time.WaitForTimerAsync(TimeSpan.FromSeconds(60));
        _time.Advance(TimeSpan.FromSeconds(60));
        HttpRequestException error = await Assert.ThrowsAsync<HttpRequestException>(() => create);
        Assert.Contains("no answer within 60 s", error.Message, StringComparison.Ordinal);
        using var stop = new CancellationTokenSource();
        Task<V1Namespace?> cancelled = client.GetAsync<V1Namespace>("x", ct: stop.Token);
        await stop.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => cancelled);
    }

    [Fact]
    public async Task Unauthorized_renews_the_credential_once()
    {
        var handler = new ScriptedHandler();
        var tokens = new Tokens();
        using EntityClient client = Client(handler, new KubernetesClientConfiguration { Host = Somewhere.Host, TokenProvider = tokens });
        handler.Answer(401, """{"kind":"Status","message":"Unauthorized"}""");
        handler.Answer(200, Pod);
        await client.GetAsync<V1Pod>("p", "ns");
        Assert.Equal(["Bearer token-0", "Bearer token-1"], handler.Authorizations);
        handler.Answer(401, """{"kind":"Status","message":"Unauthorized"}""");
        handler.Answer(401, """{"kind":"Status","message":"Unauthorized"}""");
        ApiException error = await Assert.ThrowsAsync<ApiException>(() => client.GetAsync<V1Pod>("p", "ns"));
        Assert.True(error.IsUnauthorized);
    }

    [Fact]
    public async Task An_answer_that_is_no_status_is_still_said()
    {
        var handler = new ScriptedHandler();
        using EntityClient client = Client(handler);
        handler.Answer(502, "<html>Bad gateway from the load balancer</html>");
        handler.Answer(500, "");
        ApiException proxy = await Assert.ThrowsAsync<ApiException>(() => client.GetAsync<V1Pod>("p", "ns"));
        Assert.Contains("Bad gateway from the load balancer", proxy.Message, StringComparison.Ordinal);
        ApiException empty = await Assert.ThrowsAsync<ApiException>(() => client.GetAsync<V1Pod>("p", "ns"));
        Assert.Contains("500", empty.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task An_answer_that_breaks_off_is_a_failure_to_reach_the_server()
    {
        var handler = new ScriptedHandler();
        using EntityClient client = Client(handler);
        handler.Answer(200, """{"metadata":{"resourceVersion":"1"},"items":[{"metadata":{"name":"a"}},{"meta""");
        await Assert.ThrowsAsync<HttpRequestException>(() => client.ListPageAsync<V1Pod>());
        handler.Answer(200, "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"a\",\"resourceVersion\":\"1\"}}}\n{\"type\":\"ADD");
        int seen = 0;
        await Assert.ThrowsAsync<HttpRequestException>(async () =>
        {
            await foreach (WatchEvent<V1Pod> _ in client.WatchAsync<V1Pod>())
                seen++;
        });
        Assert.Equal(1, seen);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Mutual_tls_with_an_own_authority(bool rsa)
    {
        using var certificates = new TestCertificates();
        await using TlsServer server = await TlsServer.StartAsync(certificates);
        (string? certificate, string? key) = certificates.Issue("CN=admin", rsa);
        KubernetesClientConfiguration Trusting() =>
            new() { Host = server.Url.ToString(), SslCaCerts = Pem.ReadCertificates(certificates.AuthorityPem, "test") };
        KubernetesClientConfiguration withCertificate = Trusting();
        (withCertificate.ClientCertificateData, withCertificate.ClientCertificateKeyData) = (
            TestCertificates.Base64(certificate),
            TestCertificates.Base64(key)
        );
        using (var client = new EntityClient(withCertificate))
        {
            using JsonDocument who = await client.GetRawAsync("/who");
            Assert.Equal(
                ("CN=admin", "HTTP/2"),
                (who.RootElement.GetProperty("subject").GetString(), who.RootElement.GetProperty("protocol").GetString())
            );
        }

        // A certificate from a plugin serves as well.
        KubernetesClientConfiguration withPlugin = Trusting();
        withPlugin.TokenProvider = new ExecCredentials(
            new ExternalExecution { ApiVersion = "client.authentication.k8s.io/v1", Command = PluginWith(certificate, key) }
        );
        using (var client = new EntityClient(withPlugin))
        {
            using JsonDocument who = await client.GetRawAsync("/who");
            Assert.Equal("CN=admin", who.RootElement.GetProperty("subject").GetString());
        }
    }

    [Fact]
    public async Task A_server_of_another_authority_is_refused_unless_told_otherwise()
    {
        using var certificates = new TestCertificates();
        using var others = new TestCertificates("CN=other-ca");
        await using TlsServer server = await TlsServer.StartAsync(certificates);
        KubernetesClientConfiguration To(TestCertificates? trusted, bool skip = false) =>
            new()
            {
                Host = server.Url.ToString(),
                SslCaCerts = trusted is null ? null : Pem.ReadCertificates(trusted.AuthorityPem, "test"),
                SkipTlsVerify = skip,
            };
        Assert.Equal("ok", await TryAsync(To(certificates)));
        Assert.Equal("SecureConnectionError", await TryAsync(To(others)));
        Assert.Equal("SecureConnectionError", await TryAsync(To(null)));
        Assert.Equal("ok", await TryAsync(To(null, skip: true)));
    }

    /// <summary>The authority is private and the right one each time: the name alone decides.</summary>
    [Theory]
    // By address: the certificate has this address, another one, or names only.
    [InlineData("127.0.0.1", "127.0.0.1", null, null, "ok")]
    [InlineData("127.0.0.1", "127.0.0.2", null, null, "SecureConnectionError")]
    [InlineData("127.0.0.1", null, "kube.internal", null, "SecureConnectionError")]
    [InlineData("127.0.0.1", null, "localhost", null, "SecureConnectionError")]
    // By DNS name: the certificate has it, another, or only the address that it stands for.
    [InlineData("localhost", null, "localhost", null, "ok")]
    [InlineData("localhost", null, "kube.internal", null, "SecureConnectionError")]
    [InlineData("localhost", "127.0.0.1", null, null, "SecureConnectionError")]
    [InlineData("localhost", null, "localhost.kube.internal", null, "SecureConnectionError")]
    // tls-server-name takes the place of both.
    [InlineData("127.0.0.1", null, "kube.internal", "kube.internal", "ok")]
    [InlineData("localhost", null, "kube.internal", "kube.internal", "ok")]
    [InlineData("127.0.0.1", "127.0.0.1", null, "kube.internal", "SecureConnectionError")]
    [InlineData("localhost", null, "localhost", "other.internal", "SecureConnectionError")]
    public async Task A_server_whose_certificate_is_for_another_name_is_refused(
        string host,
        string? address,
        string? dnsName,
        string? tlsServerName,
        string outcome
    )
    {
        using var certificates = new TestCertificates();
        await using TlsServer server = await TlsServer.StartAsync(certificates, dnsName, address is null ? null : IPAddress.Parse(address));
        Assert.Equal(
            outcome,
            await TryAsync(
                new()
                {
                    Host = new UriBuilder(server.Url) { Host = host }.Uri.ToString(),
                    SslCaCerts = Pem.ReadCertificates(certificates.AuthorityPem, "test"),
                    TlsServerName = tlsServerName,
                }
            )
        );
    }

    private static async Task<string> TryAsync(KubernetesClientConfiguration configuration)
    {
        using var client = new EntityClient(configuration);
        try
        {
            using JsonDocument who = await client.GetRawAsync("/who");
            return "ok";
        }
        catch (HttpRequestException e)
        {
            return e.HttpRequestError.ToString();
        }
    }

    private static string PluginWith(string certificate, string key)
    {
        string folder = Directory.CreateTempSubdirectory("pcioperator-plugin-").FullName;
        string script = Path.Combine(folder, "plugin.sh");
        static string Json(string pem) => pem.Replace("\n", "\\n", StringComparison.Ordinal);
        File.WriteAllText(
            script,
            $$$"""
            #!/bin/sh
            cat <<'EOF'
            {"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"clientCertificateData":"{{{Json(
                certificate
            )}}}","clientKeyData":"{{{Json(key)}}}"}}
            EOF
            """
        );
        File.SetUnixFileMode(script, UnixFileMode.UserRead | UnixFileMode.UserExecute);
        return script;
    }

    private sealed class Tokens : IRenewedTokenProvider
    {
        private int _number;

        public Task<AuthenticationHeaderValue> GetAuthenticationHeaderAsync(CancellationToken cancellationToken) =>
            Task.FromResult(new AuthenticationHeaderValue("Bearer", $"token-{_number}"));

        public void Rejected(AuthenticationHeaderValue? header) => _number++;
    }

    /// <summary>Answers requests as it is told; without an answer it never does.</summary>
    private sealed class ScriptedHandler : HttpMessageHandler
    {
        private readonly Channel<Func<HttpResponseMessage>> _answers = Channel.CreateUnbounded<Func<HttpResponseMessage>>();
        private readonly Channel<string> _calls = Channel.CreateUnbounded<string>();

        public List<string> Authorizations { get; } = [];

        public string? UserAgent { get; private set; }

        public Task<string> NextAsync() => _calls.Reader.ReadAsync().AsTask().WaitAsync(TimeSpan.FromSeconds(30));

        public void Answer(int code, string body, int? retryAfter = null) =>
            _answers.Writer.TryWrite(() =>
            {
                var response = new HttpResponseMessage((HttpStatusCode)code)
                {
                    Content = new StringContent(body, Encoding.UTF8, "application/json"),
                };
                if (retryAfter is { } seconds)
                    response.Headers.RetryAfter = new(TimeSpan.FromSeconds(seconds));
                return response;
            });

        public void Fail(Exception error) => _answers.Writer.TryWrite(() => throw error);

        protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            _calls.Writer.TryWrite($"{request.Method} {request.RequestUri!.AbsoluteUri}");
            UserAgent = request.Headers.UserAgent.ToString();
            if (request.Headers.Authorization is { } authorization)
                Authorizations.Add(authorization.ToString());
            return (await _answers.Reader.ReadAsync(cancellationToken))();
        }
    }

    /// <summary>An HTTPS server that takes client certificates and says whose it saw.</summary>
    private sealed class TlsServer : IAsyncDisposable
    {
        private readonly WebApplication _app;

        private TlsServer(WebApplication app, Uri url)
        {
            _app = app;
            Url = url;
        }

        public Uri Url { get; }

        public static async Task<TlsServer> StartAsync(TestCertificates certificates, string? dnsName = null, IPAddress? address = null)
        {
            (string? certificate, string? key) = certificates.Issue("CN=server", server: true, dnsName: dnsName, address: address);
            WebApplicationBuilder builder = WebApplication.CreateEmptyBuilder(
                new WebApplicationOptions { ContentRootPath = AppContext.BaseDirectory }
            );
            builder
                .WebHost.UseKestrelCore()
                .UseKestrelHttpsConfiguration()
                .ConfigureKestrel(kestrel =>
                    kestrel.Listen(
                        IPAddress.Loopback,
                        0,
                        listen =>
                            listen.UseHttps(https =>
                            {
                                https.ServerCertificate = X509Certificate2.CreateFromPem(certificate, key);
                                https.ClientCertificateMode = ClientCertificateMode.AllowCertificate;
                                https.ClientCertificateValidation = (_, _, errors) =>
                                    errors != SslPolicyErrors.RemoteCertificateNotAvailable;
                            })
                    )
                );
            WebApplication app = builder.Build();
            app.Run(context =>
                context.Response.WriteAsync(
                    $$"""{"subject":"{{context.Connection.ClientCertificate?.Subject}}","protocol":"{{context.Request.Protocol}}"}"""
                )
            );
            await app.StartAsync();
            return new TlsServer(
                app,
                new Uri(app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.First())
            );
        }

        public ValueTask DisposeAsync() => _app.DisposeAsync();
    }
}
