using System.Net;
using System.Text;
using PciOperator.Kubernetes;

namespace PciOperator.Tests;

/// <summary>What an API server answers to whom: allowed, or refused with which sentence.</summary>
internal static class Answers
{
    /// <summary>Fails when the call is refused.</summary>
    public static async Task AllowedAsync(
        EntityClient who,
        HttpMethod method,
        string path,
        string? type,
        string? body,
        bool untilItIs = false
    ) => Assert.Null((await AnswerAsync(who, method, path, type, body, refusal => untilItIs && refusal is not null))?.Message);

    /// <summary>Fails when the call is allowed, or refused for another reason.</summary>
    public static async Task RefusedAsync(
        EntityClient who,
        HttpMethod method,
        string path,
        string? type,
        string? body,
        string why,
        bool untilItIs = false
    )
    {
        ApiException? refusal = await AnswerAsync(who, method, path, type, body, refusal => untilItIs && refusal is null);
        Assert.True(refusal is not null, $"{method} {path} was allowed: {body?[..Math.Min(body.Length, 200)]}");
        Assert.True(refusal.StatusCode is HttpStatusCode.Forbidden or HttpStatusCode.UnprocessableEntity, refusal.Message);
        Assert.Contains(why, refusal.Message, StringComparison.Ordinal);
    }

    /// <summary>The refusal, or null. A policy holds some moments after it was made or deleted: until then it is asked again.</summary>
    private static async Task<ApiException?> AnswerAsync(
        EntityClient who,
        HttpMethod method,
        string path,
        string? type,
        string? body,
        Func<ApiException?, bool> again
    )
    {
        for (int attempt = 0; ; attempt++)
        {
            ApiException? refusal = null;
            try
            {
                (
                    await who.SendRawAsync(method, path, body is null ? null : Encoding.UTF8.GetBytes(body), type ?? "application/json")
                ).Dispose();
            }
            catch (ApiException refused)
            {
                refusal = refused;
            }

            if (!again(refusal) || attempt == 100)
                return refusal;
            await Task.Delay(100);
        }
    }
}
