using System.Text.Json;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Http;

namespace PciOperator.Sandbox.ApiServer.Http;

/// <summary>Reads the body of a request.</summary>
internal static class RequestBody
{
    private const int MostBytes = 3 << 20;

    public static string ContentType(HttpRequest request) => (request.ContentType ?? "").Split(';')[0].Trim().ToLowerInvariant();

    public static async Task<byte[]> ReadAsync(HttpRequest request, CancellationToken ct)
    {
        using var buffer = new MemoryStream();
        byte[] chunk = new byte[16 << 10];
        int read;
        while ((read = await request.Body.ReadAsync(chunk, ct)) > 0)
        {
            if (buffer.Length + read > MostBytes)
                throw new ApiError(413, "RequestEntityTooLarge", $"Request entity too large: limit is {MostBytes}");
            buffer.Write(chunk, 0, read);
        }

        return buffer.ToArray();
    }

    /// <summary>The refusal of a body that is no object of <paramref name="kind"/>; it quotes the body's start.</summary>
    public static ApiError Unrecognised(string kind, string why, byte[] body)
    {
        const int shown = 30;
        Span<byte> start = body.AsSpan(0, Math.Min(shown, body.Length));
        string summary =
            body.Length == 0
                ? "<empty>"
                : (body[0] == '{' ? System.Text.Encoding.UTF8.GetString(start) : Convert.ToHexStringLower(start))
                    + (body.Length > shown ? " ..." : "");
        return ApiError.BadRequest($"the object provided is unrecognized (must be of type {kind}): {why} ({summary})");
    }

    /// <summary>An object from JSON or YAML; paths of duplicate fields are added.</summary>
    public static JsonObject Object(byte[] body, string contentType, List<string> duplicates, string kind = "Object")
    {
        if (contentType == Protobuf.MediaType)
            return Protobuf.Read(body) ?? throw ApiError.UnsupportedMediaType("application/json, application/yaml");
        try
        {
            JsonNode? node = contentType is "application/yaml" or "application/apply-patch+yaml" or "text/yaml"
                ? Yaml.Parse(System.Text.Encoding.UTF8.GetString(body)).FirstOrDefault()
                : Json.Parse(body, duplicates);
            return node as JsonObject ?? throw Unrecognised(kind, "couldn't get version/kind; json parse error: expected an object", body);
        }
        catch (JsonException e)
        {
            throw Unrecognised(kind, $"couldn't get version/kind; json parse error: {e.Message}", body);
        }
        catch (YamlDotNet.Core.YamlException e)
        {
            throw ApiError.BadRequest($"error parsing YAML: {e.Message}");
        }
    }
}
