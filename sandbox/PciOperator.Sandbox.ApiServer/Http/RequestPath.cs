namespace PciOperator.Sandbox.ApiServer.Http;

/// <summary>A resource path: <c>/api/v1/namespaces/{ns}/pods/{name}/status</c> and the like.</summary>
internal sealed record RequestPath(string Group, string Version, string Namespace, string Plural, string Name, string Subresource)
{
    /// <summary>Null where the path is not one of a resource.</summary>
    public static RequestPath? Parse(string path)
    {
        string[] parts = path.Split('/', StringSplitOptions.RemoveEmptyEntries).Select(Uri.UnescapeDataString).ToArray();
        string group,
            version;
        int at;
        if (parts is ["api", _, _, ..])
            (group, version, at) = ("", parts[1], 2);
        else if (parts is ["apis", _, _, _, ..])
            (group, version, at) = (parts[1], parts[2], 3);
        else
            return null;

        string ns = "";
        // namespaces/{name} and its subresources are the namespace itself; deeper paths are inside it.
        if (parts[at] == "namespaces" && parts.Length > at + 2 && !(group.Length == 0 && parts[at + 2] is "status" or "finalize"))
        {
            ns = parts[at + 1];
            at += 2;
        }

        Span<string> rest = parts.AsSpan(at);
        return rest.Length > 3
            ? null
            : new RequestPath(group, version, ns, rest[0], rest.Length > 1 ? rest[1] : "", rest.Length > 2 ? rest[2] : "");
    }
}
