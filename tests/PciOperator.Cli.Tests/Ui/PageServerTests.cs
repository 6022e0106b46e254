using System.Net;
using System.Net.Sockets;
using PciOperator.Cli.Ui;

namespace PciOperator.Cli.Tests.Ui;

/// <summary>Who may read the page, and who not.</summary>
public sealed class PageServerTests : IAsyncLifetime
{
    private readonly CancellationTokenSource _end = new();
    private readonly PageFeed _feed = new(TimeProvider.System);
    private readonly HttpClient _http = new(new SocketsHttpHandler { AllowAutoRedirect = false });
    private PageServer? _server;

    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    private PageServer Server => _server!;

    public async ValueTask InitializeAsync() =>
        _server = await PageServer.StartAsync(
            0,
            _feed,
            (ns, name, _) => Task.FromResult(new ExplanationCard(null, $"{ns}/{name}")),
            _end.Token
        );

    public async ValueTask DisposeAsync()
    {
        await _end.CancelAsync();
        await Server.DisposeAsync();
        _http.Dispose();
        _end.Dispose();
    }

    [Theory]
    [InlineData("", "text/html")]
    [InlineData("page.js", "text/javascript")]
    [InlineData("page.css", "text/css")]
    [InlineData("icon.svg", "image/svg+xml")]
    public async Task What_the_page_is_made_of_is_served_with_what_a_browser_may_do_with_it(string name, string type)
    {
        using HttpResponseMessage answer = await _http.GetAsync(Server.Address + name, Ct);
        Assert.Equal(HttpStatusCode.OK, answer.StatusCode);
        Assert.Equal(type, answer.Content.Headers.ContentType!.MediaType);
        AssertGuarded(answer);
        string text = await answer.Content.ReadAsStringAsync(Ct);
        Assert.NotEmpty(text);
        // Nothing from elsewhere, and nothing that the policy would refuse.
        Assert.DoesNotContain("https://", text, StringComparison.Ordinal);
        Assert.DoesNotContain("innerHTML", text, StringComparison.Ordinal);
        Assert.DoesNotContain(" style=", text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task All_of_it_is_small()
    {
        int size = 0;
        foreach (string name in (string[])["", "page.js", "page.css", "icon.svg"])
            size += (await _http.GetByteArrayAsync(Server.Address + name, Ct)).Length;
        Assert.InRange(size, 1, 34_000);
    }

    [Theory]
    [InlineData("evil.example")]
    [InlineData("evil.example:{port}")]
    [InlineData("127.0.0.1")]
    [InlineData("127.0.0.1:1")]
    [InlineData("127.0.0.1.nip.io:{port}")]
    [InlineData("localhost.evil.example:{port}")]
    public async Task Another_host_is_refused_as_a_name_that_is_made_to_point_here_would_be(string host)
    {
        using HttpResponseMessage answer = await SendAsync(HttpMethod.Get, Server.Address, host);
        Assert.Equal(HttpStatusCode.MisdirectedRequest, answer.StatusCode);
        AssertGuarded(answer);
    }

    [Theory]
    [InlineData("127.0.0.1:{port}")]
    [InlineData("localhost:{port}")]
    [InlineData("[::1]:{port}")]
    public async Task Loopback_by_each_of_its_names_is_not(string host)
    {
        using HttpResponseMessage answer = await SendAsync(HttpMethod.Get, Server.Address, host);
        Assert.Equal(HttpStatusCode.OK, answer.StatusCode);
    }

    [Fact]
    public async Task Without_the_secret_nothing_is_told()
    {
        string secret = new Uri(Server.Address).AbsolutePath.Trim('/');
        Assert.True(secret.Length >= 40);
        string root = $"http://127.0.0.1:{Server.Port}/";
        foreach (
            string path in (string[])
                [
                    "",
                    "events",
                    "page.js",
                    "favicon.ico",
                    secret[..^1] + "/",
                    secret[..^1] + "x/events",
                    secret.ToUpperInvariant() + "/",
                    $"x/{secret}/",
                    secret,
                ]
        )
        {
            using HttpResponseMessage answer = await _http.GetAsync(root + path, Ct);
            Assert.Equal(HttpStatusCode.Forbidden, answer.StatusCode);
            AssertGuarded(answer);
            Assert.Equal("Open the whole address that kubectl pci ui printed.\n", await answer.Content.ReadAsStringAsync(Ct));
        }
    }

    [Theory]
    [InlineData("POST")]
    [InlineData("PUT")]
    [InlineData("DELETE")]
    [InlineData("OPTIONS")]
    [InlineData("HEAD")]
    public async Task Nothing_but_GET_is_answered(string method)
    {
        using HttpResponseMessage answer = await SendAsync(new HttpMethod(method), Server.Address + "events", null);
        Assert.Equal(HttpStatusCode.MethodNotAllowed, answer.StatusCode);
        AssertGuarded(answer);
    }

    [Fact]
    public async Task An_explanation_is_that_of_the_claim_that_was_named()
    {
        string answer = await _http.GetStringAsync(Server.Address + "explain?namespace=team-a&name=one", Ct);
        Assert.Equal("""{"error":"team-a/one"}""", answer);
    }

    [Fact]
    public async Task It_listens_on_loopback_alone_and_on_both_of_its_addresses()
    {
        Assert.StartsWith($"http://127.0.0.1:{Server.Port}/", Server.Address, StringComparison.Ordinal);
        foreach (IPAddress address in (IPAddress[])[.. await Dns.GetHostAddressesAsync(Dns.GetHostName(), Ct)])
        {
            if (IPAddress.IsLoopback(address))
                continue;
            using var other = new Socket(address.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
            await Assert.ThrowsAsync<SocketException>(async () => await other.ConnectAsync(address, Server.Port, Ct));
        }

        using var taken = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        Assert.Throws<SocketException>(() => taken.Bind(new IPEndPoint(IPAddress.Loopback, Server.Port)));
        CliException refused = await Assert.ThrowsAsync<CliException>(() =>
            PageServer.StartAsync(Server.Port, _feed, (_, _, _) => Task.FromResult(new ExplanationCard(null, null)), _end.Token)
        );
        Assert.Contains("--port", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_page_that_is_connected_keeps_the_program_from_nothing()
    {
        using HttpResponseMessage events = await _http.GetAsync(Server.Address + "events", HttpCompletionOption.ResponseHeadersRead, Ct);
        Assert.Equal("text/event-stream", events.Content.Headers.ContentType!.MediaType);
        using var reader = new StreamReader(await events.Content.ReadAsStreamAsync(Ct));
        Assert.Equal("event: begin", await reader.ReadLineAsync(Ct));
        await _end.CancelAsync();
        await reader.ReadToEndAsync(Ct);
    }

    private async Task<HttpResponseMessage> SendAsync(HttpMethod method, string address, string? host)
    {
        using var request = new HttpRequestMessage(method, address);
        request.Headers.Host = host?.Replace("{port}", $"{Server.Port}", StringComparison.Ordinal);
        return await _http.SendAsync(request, Ct);
    }

    private static void AssertGuarded(HttpResponseMessage answer)
    {
        Assert.Equal(PageServer.Policy, answer.Headers.GetValues("Content-Security-Policy").Single());
        Assert.DoesNotContain("unsafe", PageServer.Policy, StringComparison.Ordinal);
        Assert.Equal("nosniff", answer.Headers.GetValues("X-Content-Type-Options").Single());
        Assert.Equal("no-referrer", answer.Headers.GetValues("Referrer-Policy").Single());
        Assert.Equal("no-store", answer.Headers.CacheControl!.ToString());
        Assert.False(answer.Headers.Contains("Access-Control-Allow-Origin"));
    }
}
