namespace PciOperator.KilledPrograms;

/// <summary>
/// Every call to the API server is two points: before it is sent, and after it is answered. Lists and watches fill caches and are left out.
/// </summary>
internal sealed class KillingHandler(HttpMessageHandler inner, KillSwitch kill) : DelegatingHandler(inner)
{
    protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
    {
        if (NameOf(request) is not { } name)
            return await base.SendAsync(request, cancellationToken);
        kill.Reach(name, before: true);
        HttpResponseMessage response = await base.SendAsync(request, cancellationToken);
        kill.Reach(name, before: false);
        return response;
    }

    /// <summary><c>PATCH pcinodes/status</c>: verb, resource and subresource.</summary>
    private static string? NameOf(HttpRequestMessage request)
    {
        string[] path = request.RequestUri!.AbsolutePath.Trim('/').Split('/');
        var rest = path.Skip(path[0] == "api" ? 2 : 3).ToList();
        if (rest is ["namespaces", _, _, ..])
            rest = rest[2..];
        return (request.Method.Method, rest.Count) switch
        {
            ("GET", < 2) => null,
            (_, 0) => null,
            (var verb, >= 3) => $"{verb} {rest[0]}/{rest[2]}",
            var (verb, _) => $"{verb} {rest[0]}",
        };
    }
}
