// Sends the token as JSON, as the API takes nothing else, and opens the page.

const form = document.querySelector("form");
const problem = document.querySelector("#problem");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  problem.textContent = "";
  try {
    const answer = await fetch("/login", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ token: form.elements.token.value.trim() }),
    });
    if (answer.ok) {
      location.assign(`/${location.hash}`); // the view that led here
      return;
    }
    problem.textContent = (await answer.json()).detail;
  } catch {
    problem.textContent = "The server does not answer.";
  }
  form.elements.token.select();
});
